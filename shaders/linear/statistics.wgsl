// (mean, 1 / deviation) of a row of x. The mean is 0 for an RMS norm; the variance is taken in a second
// pass, because E[x^2] - mean^2 cancels. Header: COLUMNS, UNITS, NORM_EPSILON; roles: x_*, norm*.
fn part_total(base: u32, first: u32, step_by: u32) -> f32 {
    var total = 0.0;
    for (var unit = first; unit < UNITS; unit += step_by) {
        total += sum8(x8(base, unit));
    }
    return total;
}

fn part_squares(base: u32, first: u32, step_by: u32, mean: f32) -> f32 {
    var total = 0.0;
    for (var unit = first; unit < UNITS; unit += step_by) {
        let values = x8(base, unit);
        let centred = Eight(values.low - mean, values.high - mean);
        total += dot8(centred, centred);
    }
    return total;
}

fn finish_statistics(squares: f32, mean: f32) -> vec2f {
    // columns beyond COLUMNS were read as 0 and have added mean^2 each
    let padding = f32(UNITS * 8u - COLUMNS) * mean * mean;
    return vec2f(mean, inverseSqrt((squares - padding) / f32(COLUMNS) + NORM_EPSILON));
}
