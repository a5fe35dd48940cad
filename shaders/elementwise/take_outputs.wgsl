// Elementwise role: the rows of x that `outputs` lists.
fn element(row: u32, column: u32) -> Element {
    return x[outputs[row] * X_STRIDE + X_START + column];
}
