// out = epilogue(weight . rounded(prologue(x))) for few tokens: LANES threads share a row, a lane group has ROWS outputs, as
// in matvec. A lane takes whole blocks of 32 columns.
// Header: WORKGROUP, LANES, ROWS, TILE, OUTPUTS, UNITS, TOKENS, CODE_OFFSET. Roles: quant/wide/*, quant/int8/* or half/*,
// layout_*, x_*, sum*, norm*, prologue, statistics_workgroup, rounded, int8 or f16, rounded_staged or rounded_fresh, reduce_*,
// results, tokens_dense, epilogue.
const SUMS: u32 = ROWS * PARTS * TILE;
const_assert GROUP == 32u;

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
    if (first >= count) {
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
    var rows: array<u32, ROWS * PARTS>;
    for (var r = 0u; r < ROWS; r++) {
        // rows beyond the last are computed twice rather than guarded
        let row = min(first_output + r, OUTPUTS - 1u);
        rows[r * PARTS] = row;
        if (GATED) {
            rows[r * PARTS + PARTS - 1u] = row + UP_ROWS;
        }
    }
    var sums: array<f32, SUMS>;
    for (var block = lane; block < UNITS / 4u; block += LANES) {
        var x_t: array<Rounded, TILE>;
        for (var t = 0u; t < TILE; t++) {
            x_t[t] = rounded_block(t, bases[t], block, stats[t]);
        }
        for (var r = 0u; r < ROWS * PARTS; r++) {
            let codes = codes32(rows[r], block);
            let scale = group_scale(rows[r], block);
            for (var t = 0u; t < TILE; t++) {
                let product = dot32(codes, x_t[t].low, x_t[t].high);
                sums[r * TILE + t] += x_t[t].scale * weighed(product, x_t[t].sum, scale);
            }
        }
    }
    for (var s = 0u; s < SUMS; s++) {
        give_sum(thread, s, sums[s]);
    }
    sums_done();

    store_results(thread, first, count, index % per_tile * PER_WORKGROUP);
}
