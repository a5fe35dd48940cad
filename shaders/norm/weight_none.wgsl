// Norm role: no weight.
fn weight_at(column: u32) -> f32 {
    return 1.0;
}
