// Norm role: a weight, repeated every NORM_WEIGHT_LENGTH columns.
fn weight_at(column: u32) -> f32 {
    return norm_weight[column % NORM_WEIGHT_LENGTH] + WEIGHT_OFFSET;
}
