// A gate of each row's own. Header: ROW_GATE_STRIDE, ROW_GATE_START. Binding: row_gate: array<f32>.
fn row_factor(t: u32) -> f32 {
    return sigmoid(row_gate[t * ROW_GATE_STRIDE + ROW_GATE_START]);
}
