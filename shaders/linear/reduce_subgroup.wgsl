// Adds the sums of a lane group by shuffles; LANES divides every subgroup size of the device.
// Header: WORKGROUP, LANES; from the op: SUMS. Role: results (LANE_GROUPS).
var<workgroup> group_sums: array<f32, LANE_GROUPS * SUMS>;

fn give_sum(thread: u32, s: u32, value: f32) {
    var total = value;
    for (var mask = LANES / 2u; mask > 0u; mask /= 2u) {
        total += subgroupShuffleXor(total, mask);
    }
    if (thread % LANES == 0u) {
        group_sums[s * LANE_GROUPS + thread / LANES] = total;
    }
}

fn sums_done() {
    workgroupBarrier();
}

fn take_sum(lane_group: u32, s: u32) -> f32 {
    return group_sums[s * LANE_GROUPS + lane_group];
}
