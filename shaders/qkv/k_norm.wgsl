// QkvPrepare role: the head norm of k. `root` is one over the root mean square of the head.
fn k_factor(column: u32, root: f32) -> f32 {
    return root * (k_norm_weight[column % K_NORM_LENGTH] + K_NORM_OFFSET);
}
