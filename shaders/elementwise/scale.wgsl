// Elementwise role: FACTOR * x.
fn element(row: u32, column: u32) -> Element {
    return FACTOR * x[row * X_STRIDE + X_START + column];
}
