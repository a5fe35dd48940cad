// Reduction role for LANES == 1: a thread works alone.
const_assert LANES == 1u;

fn lanes_sum(value: f32, thread: u32) -> f32 {
    return value;
}

fn lanes_max(value: f32, thread: u32) -> f32 {
    return value;
}
