// The threads of one workgroup leave a row of the sum for later readers.
// Header: WORKGROUP, COLUMNS, UNITS, X_STRIDE, OUT_X_STRIDE, OUT_X_START. Binding: out_x: array<f32>. Role: stage_*.
fn keep1(first: u32, column: u32, value: f32) {
    if (column < COLUMNS) {
        out_x[first + column] = value;
    }
}

fn keep_row(thread: u32, t: u32, base: u32, root: f32) {
    let first = base / X_STRIDE * OUT_X_STRIDE + OUT_X_START;
    for (var unit = thread; unit < UNITS; unit += WORKGROUP) {
        let values = row8(t, base, unit, root);
        let c = unit * 8u;
        keep1(first, c, values.low.x);
        keep1(first, c + 1u, values.low.y);
        keep1(first, c + 2u, values.low.z);
        keep1(first, c + 3u, values.low.w);
        keep1(first, c + 4u, values.high.x);
        keep1(first, c + 5u, values.high.y);
        keep1(first, c + 6u, values.high.z);
        keep1(first, c + 7u, values.high.w);
    }
}
