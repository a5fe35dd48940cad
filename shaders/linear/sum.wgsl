// x + rms_norm(delta) takes the place of x; `root` is one over the root mean square of delta's row.
// Header: COLUMNS, RAGGED, UNITS, X_STRIDE, DELTA_STRIDE, DELTA_START, POST_EPSILON, POST_OFFSET (added to every
// weight). Binding: post_weight: array<f32>. Role: delta_*. Only with tokens_dense.
const HAS_SUM: bool = true;

fn delta_base(base: u32) -> u32 {
    return base / X_STRIDE * DELTA_STRIDE + DELTA_START;
}

fn delta_squares(base: u32, first: u32, step_by: u32) -> f32 {
    var total = 0.0;
    for (var unit = first; unit < UNITS; unit += step_by) {
        let values = delta8(delta_base(base), unit);
        total += dot8(values, values);
    }
    return total;
}

fn delta_root(squares: f32) -> f32 {
    return inverseSqrt(squares / f32(COLUMNS) + POST_EPSILON);
}

fn post_weight1(column: u32) -> f32 {
    if (RAGGED && column >= COLUMNS) {
        return 0.0;
    }
    return post_weight[column] + POST_OFFSET;
}

fn summed(base: u32, unit: u32, root: f32) -> Eight {
    let values = x8(base, unit);
    let delta = delta8(delta_base(base), unit);
    let c = unit * 8u;
    let low = vec4f(post_weight1(c), post_weight1(c + 1u), post_weight1(c + 2u), post_weight1(c + 3u));
    let high = vec4f(post_weight1(c + 4u), post_weight1(c + 5u), post_weight1(c + 6u), post_weight1(c + 7u));
    return Eight(values.low + delta.low * root * low, values.high + delta.high * root * high);
}
