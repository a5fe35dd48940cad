// Activations are normalised once into workgroup memory. Header: WORKGROUP, TILE, UNITS.
var<workgroup> staged: array<vec4f, TILE * UNITS * 2u>;

fn stage_x(thread: u32, t: u32, base: u32, stats: vec2f) {
    for (var unit = thread; unit < UNITS; unit += WORKGROUP) {
        let values = normalised(x8(base, unit), unit, stats);
        staged[(t * UNITS + unit) * 2u] = values.low;
        staged[(t * UNITS + unit) * 2u + 1u] = values.high;
    }
}

fn stage_done() {
    workgroupBarrier();
}

fn staged_x8(t: u32, base: u32, unit: u32, stats: vec2f) -> Eight {
    let i = (t * UNITS + unit) * 2u;
    return Eight(staged[i], staged[i + 1u]);
}
