// How many rows of an activation this step fills.
// Header: ROWS_FROM (0 tokens, 1 outputs, 2 sequences), ROWS_CAPACITY, step.
fn row_count() -> u32 {
    var rows = step.tokens;
    if (ROWS_FROM == 1u) {
        rows = step.outputs;
    }
    if (ROWS_FROM == 2u) {
        rows = step.sequences;
    }
    return min(rows, ROWS_CAPACITY);
}
