// Activations are summed, normalised and rounded once, into workgroup memory. A block is 32 columns.
// Header: WORKGROUP, TILE, UNITS. Takes the place of stage_*. Roles: rounded, sum*, norm*.
var<workgroup> staged_codes: array<Half, TILE * (UNITS / 4u) * 2u>;
var<workgroup> staged_scales: array<vec2f, TILE * (UNITS / 4u)>;

fn stage_sum(thread: u32, t: u32, base: u32, root: f32) {}

fn row8(t: u32, base: u32, unit: u32, root: f32) -> Eight {
    return summed(base, unit, root);
}

fn staged_x8(base: u32, unit: u32, stats: vec3f) -> Eight {
    return normalised(summed(base, unit, stats.z), unit, stats.xy);
}

fn stage_x(thread: u32, t: u32, base: u32, stats: vec3f) {
    for (var block = thread; block < UNITS / 4u; block += WORKGROUP) {
        let unit = block * 4u;
        let rounded = round32(
            staged_x8(base, unit, stats),
            staged_x8(base, unit + 1u, stats),
            staged_x8(base, unit + 2u, stats),
            staged_x8(base, unit + 3u, stats),
        );
        let at = t * (UNITS / 4u) + block;
        staged_codes[at * 2u] = rounded.low;
        staged_codes[at * 2u + 1u] = rounded.high;
        staged_scales[at] = vec2f(rounded.scale, rounded.sum);
    }
}

fn stage_done() {
    workgroupBarrier();
}

fn rounded_block(t: u32, base: u32, block: u32, stats: vec3f) -> Rounded {
    let at = t * (UNITS / 4u) + block;
    return Rounded(
        staged_codes[at * 2u], staged_codes[at * 2u + 1u], staged_scales[at].x, staged_scales[at].y,
    );
}
