// A lane's activations of eight columns come from memory as they are. Binding: x: array<f32>.
fn lane_x(t: u32, base: u32, unit: u32, lane: u32) -> vec2f {
    let i = base + unit * 8u + lane;
    return vec2f(x[i], x[i + 4u]);
}
