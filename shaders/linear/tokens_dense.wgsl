// Which rows a linear map reads and writes: token t reads row t of x and multiplies by the whole weight.
// Header: TOKENS_FROM (0 tokens, 1 outputs, 2 sequences), X_STRIDE, X_START, OUT_STRIDE, OUT_START.
fn token_count() -> u32 {
    return min(TOKENS, vec3u(step.tokens, step.outputs, step.sequences)[TOKENS_FROM]);
}

fn x_base(t: u32) -> u32 {
    return t * X_STRIDE + X_START;
}

fn out_base(t: u32) -> u32 {
    return t * OUT_STRIDE + OUT_START;
}

fn first_weight_row(t: u32) -> u32 {
    return 0u;
}

fn is_here(t: u32) -> bool {
    return true;
}

fn is_row_here(row: u32) -> bool {
    return true;
}
