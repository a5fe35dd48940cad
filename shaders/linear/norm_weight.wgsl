// Header: COLUMNS, RAGGED, NORM_OFFSET (added to every weight). Binding: norm_weight: array<f32>.
fn norm_weight1(column: u32) -> f32 {
    if (RAGGED && column >= COLUMNS) {
        return 0.0;
    }
    return norm_weight[column] + NORM_OFFSET;
}

fn norm_weights(unit: u32) -> Eight {
    let c = unit * 8u;
    return Eight(
        vec4f(norm_weight1(c), norm_weight1(c + 1u), norm_weight1(c + 2u), norm_weight1(c + 3u)),
        vec4f(norm_weight1(c + 4u), norm_weight1(c + 5u), norm_weight1(c + 6u), norm_weight1(c + 7u)),
    );
}
