// Elementwise role: x * sigmoid(gate[row]) + residual; `gate` is one f32 per row.
// Needs lib/activation (for sigmoid) and a residual role.
fn element(row: u32, column: u32) -> Element {
    let open = sigmoid(Element(gate[row * GATE_STRIDE + GATE_START]));
    return x[row * X_STRIDE + X_START + column] * open + residual_at(row, column);
}
