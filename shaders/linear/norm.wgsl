// A norm of the whole row in the prologue. Header: CENTER; roles: norm_weight*, norm_bias*.
const HAS_NORM: bool = true;

// stats = (mean, 1 / deviation)
fn normalised(values: Eight, unit: u32, stats: vec2f) -> Eight {
    let weights = norm_weights(unit);
    let biases = norm_biases(unit);
    return Eight(
        (values.low - stats.x) * stats.y * weights.low + biases.low,
        (values.high - stats.x) * stats.y * weights.high + biases.high,
    );
}
