// The other term of a sum, read as x_vec4 reads x. Binding: delta: array<vec4f>.
fn delta8(base: u32, unit: u32) -> Eight {
    let i = base / 4u + unit * 2u;
    return Eight(delta[i], delta[i + 1u]);
}
