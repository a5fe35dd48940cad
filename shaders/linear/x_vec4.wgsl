// Activations read as vec4f: starts, strides and columns are multiples of 4 and 8. Binding: x: array<vec4f>.
fn x8(base: u32, unit: u32) -> Eight {
    let i = base / 4u + unit * 2u;
    return Eight(x[i], x[i + 1u]);
}
