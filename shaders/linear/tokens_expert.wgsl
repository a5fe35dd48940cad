// Which rows an expert's linear map reads and writes: "token" p = t * USED + j is the j-th chosen expert of
// token t. Header: USED, EXPERTS, EXPERT_ROWS (rows from one expert to the next), PER_EXPERT_INPUT, COLUMNS,
// OUTPUTS, X_STRIDE, X_START, OUT_STRIDE, OUT_START, EXPERTS_STRIDE, EXPERTS_START.
fn token_count() -> u32 {
    return min(TOKENS, step.tokens * USED);
}

fn x_base(p: u32) -> u32 {
    let column = select(0u, (p % USED) * COLUMNS, PER_EXPERT_INPUT);
    return p / USED * X_STRIDE + X_START + column;
}

fn out_base(p: u32) -> u32 {
    return p / USED * OUT_STRIDE + OUT_START + (p % USED) * OUTPUTS;
}

fn first_weight_row(p: u32) -> u32 {
    let expert = experts[p / USED * EXPERTS_STRIDE + EXPERTS_START + p % USED];
    return min(expert, EXPERTS - 1u) * EXPERT_ROWS;
}
