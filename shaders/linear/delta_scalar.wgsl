// The other term of a sum, read as x_scalar reads x. Binding: delta: array<f32>.
fn delta1(base: u32, column: u32) -> f32 {
    if (column < COLUMNS) {
        return delta[base + column];
    }
    return 0.0;
}

fn delta8(base: u32, unit: u32) -> Eight {
    let c = unit * 8u;
    return Eight(
        vec4f(delta1(base, c), delta1(base, c + 1u), delta1(base, c + 2u), delta1(base, c + 3u)),
        vec4f(delta1(base, c + 4u), delta1(base, c + 5u), delta1(base, c + 6u), delta1(base, c + 7u)),
    );
}
