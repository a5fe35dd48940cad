// Reduction role: LANES (a power of two) consecutive threads reduce as a tree in workgroup memory.
// Header: LANES, WORKGROUP. To be called by all threads of the workgroup.
const_assert LANES > 1u && (LANES & (LANES - 1u)) == 0u && WORKGROUP % LANES == 0u;

var<workgroup> lane_values: array<f32, WORKGROUP>;

fn lanes_sum(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    lane_values[thread] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (thread % LANES < half) {
            lane_values[thread] += lane_values[thread + half];
        }
        workgroupBarrier();
    }
    return lane_values[thread - thread % LANES];
}

fn lanes_max(value: f32, thread: u32) -> f32 {
    workgroupBarrier();
    lane_values[thread] = value;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if (thread % LANES < half) {
            lane_values[thread] = max(lane_values[thread], lane_values[thread + half]);
        }
        workgroupBarrier();
    }
    return lane_values[thread - thread % LANES];
}
