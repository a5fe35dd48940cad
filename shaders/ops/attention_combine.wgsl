// Attention, second half where the keys were split: the SPLITS partial results of a token and head
// become one. One thread per unit of the output.
// Header: Structure and Tuning of kernels/attention.py. Needs: lib/step, lib/rows.
const VALUE_UNITS: u32 = (VALUE_SIZE + 3u) / 4u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP + thread;
    let token = index / (HEADS * VALUE_UNITS);
    if (token >= row_count()) {
        return;
    }
    let head = index / VALUE_UNITS % HEADS;
    let unit = index % VALUE_UNITS;
    let base = (token * HEADS + head) * SPLITS * (VALUE_UNITS + 1u);
    var highest = LOWEST;
    for (var split = 0u; split < SPLITS; split++) {
        highest = max(highest, partials[base + split * (VALUE_UNITS + 1u) + VALUE_UNITS].x);
    }
    var sum = vec4f(0.0);
    var total = 0.0;
    for (var split = 0u; split < SPLITS; split++) {
        let place = base + split * (VALUE_UNITS + 1u);
        let share = partials[place + VALUE_UNITS];
        let shrink = exp(share.x - highest);
        total += shrink * share.y;
        sum += shrink * partials[place + unit];
    }
    let result = sum / max(total, 1e-37);
    let first = token * OUT_STRIDE + OUT_START + head * VALUE_SIZE;
    for (var i = 0u; i < 4u; i++) {
        if (unit * 4u + i < VALUE_SIZE) {
            out[first + unit * 4u + i] = result[i];
        }
    }
}
