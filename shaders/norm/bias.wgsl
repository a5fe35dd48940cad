// Norm role: a bias, repeated every NORM_BIAS_LENGTH columns.
fn bias_at(column: u32) -> f32 {
    return norm_bias[column % NORM_BIAS_LENGTH];
}
