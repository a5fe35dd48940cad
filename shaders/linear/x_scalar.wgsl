// Activations read one by one, never beyond COLUMNS. Binding: x: array<f32>.
fn x1(base: u32, column: u32) -> f32 {
    if (column < COLUMNS) {
        return x[base + column];
    }
    return 0.0;
}

fn x8(base: u32, unit: u32) -> Eight {
    let c = unit * 8u;
    return Eight(
        vec4f(x1(base, c), x1(base, c + 1u), x1(base, c + 2u), x1(base, c + 3u)),
        vec4f(x1(base, c + 4u), x1(base, c + 5u), x1(base, c + 6u), x1(base, c + 7u)),
    );
}
