// QkvPrepare role: no head norm of q.
fn q_factor(column: u32, root: f32) -> f32 {
    return 1.0;
}
