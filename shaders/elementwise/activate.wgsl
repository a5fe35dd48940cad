// Elementwise role: activation(x). Needs lib/activation.
fn element(row: u32, column: u32) -> Element {
    return activation(x[row * X_STRIDE + X_START + column]);
}
