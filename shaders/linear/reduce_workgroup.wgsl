// Adds the sums of a lane group through workgroup memory, with one barrier: every lane leaves all its sums,
// then one thread per result adds LANES of them. Header: WORKGROUP, LANES; from the op: SUMS.
var<workgroup> lane_sums: array<f32, WORKGROUP * SUMS>;

fn give_sum(thread: u32, s: u32, value: f32) {
    lane_sums[s * WORKGROUP + thread] = value;
}

fn sums_done() {
    workgroupBarrier();
}

fn take_sum(lane_group: u32, s: u32) -> f32 {
    var total = 0.0;
    for (var lane = 0u; lane < LANES; lane++) {
        total += lane_sums[s * WORKGROUP + lane_group * LANES + lane];
    }
    return total;
}
