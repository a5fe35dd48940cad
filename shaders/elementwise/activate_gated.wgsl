// Elementwise role: activation(x) * up. Needs lib/activation.
fn element(row: u32, column: u32) -> Element {
    return activation(x[row * X_STRIDE + X_START + column]) * up[row * UP_STRIDE + UP_START + column];
}
