// Which rows an expert's linear map reads and writes: "token" p = t * USED + j is the j-th chosen expert of
// token t. Header: USED, EXPERTS, EXPERT_ROWS (rows from one expert to the next), PER_EXPERT_INPUT, COLUMNS,
// OUTPUTS, X_STRIDE, X_START, OUT_STRIDE, OUT_START, EXPERTS_STRIDE, EXPERTS_START, SHARD_FIRST and SHARD_ROWS (rows of
// the weight that are bound: those of other shards are left to their dispatches).
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

fn first_expert_row(p: u32) -> u32 {
    let expert = experts[p / USED * EXPERTS_STRIDE + EXPERTS_START + p % USED];
    return min(expert, EXPERTS - 1u) * EXPERT_ROWS;
}

// Wraps around below the shard's first row; what is read there is never stored.
fn first_weight_row(p: u32) -> u32 {
    return first_expert_row(p) - SHARD_FIRST;
}

// Whether any output of p has its rows in this shard. Where GATED all rows are in one.
fn is_here(p: u32) -> bool {
    let first = first_expert_row(p);
    return GATED || (first + OUTPUTS > SHARD_FIRST && first < SHARD_FIRST + SHARD_ROWS);
}

fn is_row_here(row: u32) -> bool {
    return GATED || row < SHARD_ROWS;
}
