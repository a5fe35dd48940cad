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

fn row_statistics(lane: u32, base: u32) -> vec2f {
    if (!HAS_NORM) {
        return vec2f(0.0, 1.0);
    }
    var mean = 0.0;
    if (CENTER) {
        mean = workgroup_total(lane, part_total(base, lane, WORKGROUP)) / f32(COLUMNS);
    }
    let squares = workgroup_total(lane, part_squares(base, lane, WORKGROUP, mean));
    return finish_statistics(squares, mean);
}
