// Norm: out = (x - mean) / sqrt(variance + EPSILON) * (weight + WEIGHT_OFFSET) + bias + residual
// over groups of GROUP columns (CENTER false: RMS norm, no mean is taken).
// LANES threads share a group. Header: Structure and Tuning of kernels/norm.py.
// Needs: lib/step, lib/rows, a lanes role; norm/{weight,bias,residual}*.wgsl supply the optional
// bindings.


@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = (workgroup.y * workgroups.x + workgroup.x) * (WORKGROUP / LANES);
    let index = tile + thread / LANES;
    let lane = thread % LANES;
    let inside = index < row_count() * GROUPS;
    let row = index / GROUPS;
    let first = (index % GROUPS) * GROUP;
    let base = row * X_STRIDE + X_START + first;

    var mean = 0.0;
    if (CENTER) {
        var sum = 0.0;
        if (inside) {
            for (var i = lane; i < GROUP; i += LANES) {
                sum += x[base + i];
            }
        }
        mean = lanes_sum(sum, thread) / f32(GROUP);
    }
    var squares = 0.0;
    if (inside) {
        for (var i = lane; i < GROUP; i += LANES) {
            let d = x[base + i] - mean;
            squares += d * d;
        }
    }
    let factor = 1.0 / sqrt(lanes_sum(squares, thread) / f32(GROUP) + EPSILON);
    if (inside) {
        for (var i = lane; i < GROUP; i += LANES) {
            let column = first + i;
            var y = (x[base + i] - mean) * factor;
            y = y * weight_at(column) + bias_at(column);
            out[row * OUT_STRIDE + OUT_START + column] = y + residual_at(row, column);
        }
    }
}
