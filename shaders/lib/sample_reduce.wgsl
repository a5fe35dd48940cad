// The workgroup's partials become one, in two rounds: few barriers, no subgroups.
// Needs WORKGROUP = FAN * FAN from the header.

const_assert WORKGROUP == FAN * FAN;

var<workgroup> lane_partials: array<Partial, WORKGROUP>;

// The result is valid in lane 0.
fn merge_lanes(own: Partial, lane: u32) -> Partial {
    lane_partials[lane] = own;
    workgroupBarrier();
    var result = own;
    if (lane < FAN) {
        // Lane i takes i, i + FAN ...: its own is first.
        for (var other = lane + FAN; other < WORKGROUP; other += FAN) {
            result = merge(result, lane_partials[other]);
        }
        lane_partials[lane] = result;
    }
    workgroupBarrier();
    if (lane == 0u) {
        for (var other = 1u; other < FAN; other++) {
            result = merge(result, lane_partials[other]);
        }
    }
    return result;
}
