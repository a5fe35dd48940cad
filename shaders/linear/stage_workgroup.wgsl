// Activations are summed and normalised once into workgroup memory. Header: WORKGROUP, TILE, UNITS.
var<workgroup> staged: array<vec4f, TILE * UNITS * 2u>;

fn stage8(t: u32, unit: u32, values: Eight) {
    staged[(t * UNITS + unit) * 2u] = values.low;
    staged[(t * UNITS + unit) * 2u + 1u] = values.high;
}

fn stage_sum(thread: u32, t: u32, base: u32, root: f32) {
    for (var unit = thread; unit < UNITS; unit += WORKGROUP) {
        stage8(t, unit, summed(base, unit, root));
    }
}

// The row before its norm. A sum is read back by the thread that has staged it: no barrier in between.
fn row8(t: u32, base: u32, unit: u32, root: f32) -> Eight {
    if (HAS_SUM) {
        let i = (t * UNITS + unit) * 2u;
        return Eight(staged[i], staged[i + 1u]);
    }
    return x8(base, unit);
}

fn stage_x(thread: u32, t: u32, base: u32, stats: vec3f) {
    if (HAS_SUM && !HAS_NORM) {
        return;
    }
    for (var unit = thread; unit < UNITS; unit += WORKGROUP) {
        stage8(t, unit, normalised(row8(t, base, unit, stats.z), unit, stats.xy));
    }
}

fn stage_done() {
    workgroupBarrier();
}

fn staged_x8(t: u32, base: u32, unit: u32, stats: vec3f) -> Eight {
    let i = (t * UNITS + unit) * 2u;
    return Eight(staged[i], staged[i + 1u]);
}
