// Binding: bias: array<f32>, one per weight row.
fn bias_of(row: u32) -> f32 {
    return bias[row];
}
