// Header: RESIDUAL_STRIDE, RESIDUAL_START. Binding: residual: array<f32>.
fn residual_of(t: u32, n: u32) -> f32 {
    return residual[t * RESIDUAL_STRIDE + RESIDUAL_START + n];
}
