// Activations are read from memory (and normalised) where they are needed.
fn stage_x(thread: u32, t: u32, base: u32, stats: vec2f) {}

fn stage_done() {}

fn staged_x8(t: u32, base: u32, unit: u32, stats: vec2f) -> Eight {
    return normalised(x8(base, unit), unit, stats);
}
