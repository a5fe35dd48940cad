// QkvPrepare role: the head norm of q. `root` is one over the root mean square of the head.
fn q_factor(column: u32, root: f32) -> f32 {
    return root * (q_norm_weight[column % Q_NORM_LENGTH] + Q_NORM_OFFSET);
}
