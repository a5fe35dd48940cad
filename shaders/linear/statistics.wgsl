// (mean, 1 / deviation) of a row. The mean is 0 for an RMS norm; the variance is taken in a second
// pass, because E[x^2] - mean^2 cancels. Header: COLUMNS, UNITS, NORM_EPSILON; roles: stage_*, norm*.
fn part_total(t: u32, base: u32, root: f32, first: u32, step_by: u32) -> f32 {
    var total = 0.0;
    for (var unit = first; unit < UNITS; unit += step_by) {
        total += sum8(row8(t, base, unit, root));
    }
    return total;
}

fn part_squares(t: u32, base: u32, root: f32, first: u32, step_by: u32, mean: f32) -> f32 {
    var total = 0.0;
    for (var unit = first; unit < UNITS; unit += step_by) {
        let values = row8(t, base, unit, root);
        let centred = Eight(values.low - mean, values.high - mean);
        total += dot8(centred, centred);
    }
    return total;
}

fn finish_statistics(squares: f32, mean: f32, root: f32) -> vec3f {
    // columns beyond COLUMNS were read as 0 and have added mean^2 each
    let padding = f32(UNITS * 8u - COLUMNS) * mean * mean;
    return vec3f(mean, inverseSqrt((squares - padding) / f32(COLUMNS) + NORM_EPSILON), root);
}
