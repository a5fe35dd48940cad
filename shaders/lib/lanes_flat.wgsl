// Reduction role: every thread reads the values of its LANES itself. Two barriers whatever LANES is:
// cheaper than a tree for few lanes, and where a barrier is expensive (software adapters).
// Header: LANES, WORKGROUP. To be called by all threads of the workgroup.
const_assert LANES > 1u && WORKGROUP % LANES == 0u;

var<workgroup> lane_values: array<f32, WORKGROUP>;

fn lanes_sum(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    lane_values[thread] = value;
    workgroupBarrier();
    let first = thread - thread % LANES;
    var sum = 0.0;
    for (var lane = 0u; lane < LANES; lane++) {
        sum += lane_values[first + lane];
    }
    return sum;
}

fn lanes_max(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    lane_values[thread] = value;
    workgroupBarrier();
    let first = thread - thread % LANES;
    var highest = lane_values[first];
    for (var lane = 1u; lane < LANES; lane++) {
        highest = max(highest, lane_values[first + lane]);
    }
    return highest;
}
