// Elementwise ops: out[row, column] = element(row, column), for one column or four at once.
// Header: alias Element (f32 or vec4f), WIDTH and all strides in units of Element.
// Needs: lib/step, lib/rows and one role of elementwise/, which supplies element().

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP + thread;
    let row = index / WIDTH;
    if (row >= row_count()) {
        return;
    }
    let column = index % WIDTH;
    out[row * OUT_STRIDE + OUT_START + column] = element(row, column);
}
