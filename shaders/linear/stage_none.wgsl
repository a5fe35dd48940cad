// Activations are read from memory (summed and normalised) where they are needed.
fn stage_sum(thread: u32, t: u32, base: u32, root: f32) {}

fn row8(t: u32, base: u32, unit: u32, root: f32) -> Eight {
    return summed(base, unit, root);
}

fn stage_x(thread: u32, t: u32, base: u32, stats: vec3f) {}

fn stage_done() {}

fn staged_x8(t: u32, base: u32, unit: u32, stats: vec3f) -> Eight {
    return normalised(summed(base, unit, stats.z), unit, stats.xy);
}
