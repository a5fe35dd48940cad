// Rows have no gate.
fn row_factor(t: u32) -> f32 {
    return 1.0;
}
