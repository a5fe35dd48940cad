// QkvPrepare role: no head norm of k.
fn k_factor(column: u32, root: f32) -> f32 {
    return 1.0;
}
