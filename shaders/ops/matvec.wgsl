// out = epilogue(weight . prologue(x)) for few tokens: LANES threads share a row, a lane group has ROWS outputs.
// Every lane sums its units of eight columns for ROWS outputs and TILE tokens; a role adds the lanes' sums.
// Header: WORKGROUP, LANES, ROWS, TILE, STEP_UNITS (consecutive units per lane and step), X_SHARED, OUTPUTS, UNITS,
// TOKENS. Roles: quant/*, layout_*, x_*, sum*, norm*, prologue, statistics_workgroup, stage_*, reduce_*, results, epilogue.
const SUMS: u32 = ROWS * PARTS * TILE;
const SPAN: u32 = min(STEP_UNITS, GROUP / 8u);  // units of a step that share a scale
const_assert STEP_UNITS % SPAN == 0u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group_id: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let index = group_id.y * groups.x + group_id.x;
    let per_tile = (OUTPUTS + PER_WORKGROUP - 1u) / PER_WORKGROUP;
    let first = index / per_tile * TILE;
    let count = token_count();
    if (first >= count || !is_here(min(first, count - 1u))) {
        return;
    }
    let thread = local.x;
    let lane = thread % LANES;
    let lane_group = thread / LANES;
    var bases: array<u32, TILE>;
    var stats: array<vec3f, TILE>;
    for (var t = 0u; t < TILE; t++) {
        bases[t] = x_base(min(first + t, count - 1u));
        stats[t] = prologue(thread, t, bases[t], index % per_tile == 0u && first + t < count);
    }
    stage_done();

    let first_output = index % per_tile * PER_WORKGROUP + lane_group * ROWS;
    let first_row = first_weight_row(first);
    var rows: array<u32, ROWS * PARTS>;
    for (var r = 0u; r < ROWS; r++) {
        // rows beyond the last are computed twice rather than guarded
        let row = first_row + min(first_output + r, OUTPUTS - 1u);
        rows[r * PARTS] = row;
        if (GATED) {
            rows[r * PARTS + PARTS - 1u] = row + UP_ROWS;
        }
    }
    var sums: array<f32, SUMS>;
    for (var first_unit = lane * STEP_UNITS; first_unit < UNITS; first_unit += LANES * STEP_UNITS) {
        for (var span = first_unit; span < first_unit + STEP_UNITS; span += SPAN) {
            if (UNITS % STEP_UNITS > 0u && span >= UNITS) {
                break;
            }
            var dots = array<f32, SUMS>();  // naga 27 does not zero a var without initializer again
            var x_sums = array<f32, TILE>();
            for (var unit = span; unit < span + SPAN; unit++) {
                var x_t: array<Eight, TILE>;
                for (var t = 0u; t < TILE; t++) {
                    x_t[t] = staged_x8(t, bases[t], unit, stats[t]);
                    if (HAS_MINIMUM) {
                        x_sums[t] += sum8(x_t[t]);
                    }
                }
                for (var r = 0u; r < ROWS * PARTS; r++) {
                    let codes = quants8(rows[r], unit);
                    for (var t = 0u; t < TILE; t++) {
                        dots[r * TILE + t] += dot8(codes, x_t[t]);
                    }
                }
            }
            for (var r = 0u; r < ROWS * PARTS; r++) {
                let scale = group_scale(rows[r], span * 8u / GROUP);
                for (var t = 0u; t < TILE; t++) {
                    sums[r * TILE + t] += scale.x * dots[r * TILE + t];
                    if (HAS_MINIMUM) {
                        sums[r * TILE + t] -= scale.y * x_sums[t];
                    }
                }
            }
        }
    }
    for (var s = 0u; s < SUMS; s++) {
        give_sum(thread, s, sums[s]);
    }
    sums_done();

    store_results(thread, first, count, index % per_tile * PER_WORKGROUP);
}
