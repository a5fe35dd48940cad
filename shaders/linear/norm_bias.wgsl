// Header: COLUMNS, RAGGED. Binding: norm_bias: array<f32>.
fn norm_bias1(column: u32) -> f32 {
    if (RAGGED && column >= COLUMNS) {
        return 0.0;
    }
    return norm_bias[column];
}

fn norm_biases(unit: u32) -> Eight {
    let c = unit * 8u;
    return Eight(
        vec4f(norm_bias1(c), norm_bias1(c + 1u), norm_bias1(c + 2u), norm_bias1(c + 3u)),
        vec4f(norm_bias1(c + 4u), norm_bias1(c + 5u), norm_bias1(c + 6u), norm_bias1(c + 7u)),
    );
}
