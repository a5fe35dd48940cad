// Keeps adjusted scores for sample_filter. Binding: scores f32[R, V].
fn keep(index: u32, y: f32) {
    scores[index] = y;
}

fn kept(index: u32) -> f32 {
    return scores[index];
}
