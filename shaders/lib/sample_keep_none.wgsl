// No filter follows: nothing is kept.
fn keep(index: u32, y: f32) {}

fn kept(index: u32) -> f32 {
    return 0.0;
}
