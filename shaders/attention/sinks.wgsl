// Role: an extra logit per head that only takes part in the denominator.
fn sink_logit(head: u32) -> f32 {
    return sinks[head];
}
