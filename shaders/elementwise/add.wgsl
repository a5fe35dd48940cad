// Elementwise role: x + FACTOR * y.
fn element(row: u32, column: u32) -> Element {
    return x[row * X_STRIDE + X_START + column] + FACTOR * y[row * Y_STRIDE + Y_START + column];
}
