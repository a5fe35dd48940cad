// Shared activations come from memory as they are. Binding: x: array<vec4f>.
fn shared_vector(t: u32, base: u32, i: u32) -> vec4f {
    return x[base / 4u + i];
}
