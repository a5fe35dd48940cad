// Rope: each head of x is rotated by the token's position; elements from ROTATED on are copied.
// One thread per element. Header: Structure and Tuning of kernels/rope.py.
// Needs: lib/step, lib/rows, lib/rope.

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP + thread;
    let row = index / (HEADS * HEAD_SIZE);
    if (row >= row_count()) {
        return;
    }
    let column = index % (HEADS * HEAD_SIZE);
    let element = column % HEAD_SIZE;
    let base = row * X_STRIDE + X_START + column - element;
    var y = x[base + element];
    if (element < ROTATED) {
        y = rope_rotate(positions[row], element, y, x[base + rope_partner(element)]);
    }
    out[row * OUT_STRIDE + OUT_START + column] = y;
}
