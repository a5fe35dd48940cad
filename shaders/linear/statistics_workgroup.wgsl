// The threads of a workgroup compute the statistics of one row together. Uniform control flow only.
// Header: WORKGROUP (a multiple of 8).
var<workgroup> statistics_sums: array<f32, WORKGROUP>;

fn workgroup_total(lane: u32, value: f32) -> f32 {
    statistics_sums[lane] = value;
    workgroupBarrier();
    var part = 0.0;
    if (lane < 8u) {
        for (var i = lane; i < WORKGROUP; i += 8u) {
            part += statistics_sums[i];
        }
    }
    workgroupBarrier();
    if (lane < 8u) {
        statistics_sums[lane] = part;
    }
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < 8u; i++) {
        total += statistics_sums[i];
    }
    workgroupBarrier();
    return total;
}

fn row_statistics(thread: u32, t: u32, base: u32) -> vec3f {
    var root = 1.0;
    if (HAS_SUM) {
        root = delta_root(workgroup_total(thread, delta_squares(base, thread, WORKGROUP)));
        stage_sum(thread, t, base, root);
    }
    if (!HAS_NORM) {
        return vec3f(0.0, 1.0, root);
    }
    var mean = 0.0;
    if (CENTER) {
        mean = workgroup_total(thread, part_total(t, base, root, thread, WORKGROUP)) / f32(COLUMNS);
    }
    let squares = workgroup_total(thread, part_squares(t, base, root, thread, WORKGROUP, mean));
    return finish_statistics(squares, mean, root);
}
