// No residual.
fn residual_of(t: u32, n: u32) -> f32 {
    return 0.0;
}
