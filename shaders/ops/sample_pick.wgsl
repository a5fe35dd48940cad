// Sampling without a filter, second dispatch: one workgroup per row takes the best of the slices.
// Header: VOCABULARY, SLICES, ROW_PARTIALS, WORKGROUP, FAN.
// Bindings: step, slots u32[R], samplers, partials Partial[R, ROW_PARTIALS], results, and those of the roles.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (row >= step.outputs) {
        return;
    }
    var own = empty_partial();
    for (var slice = lane; slice < SLICES; slice += WORKGROUP) {
        own = merge(own, partials[row * ROW_PARTIALS + slice]);
    }
    let all = merge_lanes(own, lane);
    if (lane == 0u) {
        choose(row, slots[row], all.id, all);
    }
}
