// out[t] = SCALE * table[index[t]]: one thread per eight columns. Only rows inside this shard are written.
// Header: WORKGROUP, COLUMNS, UNITS, TOKENS, FIRST_ROW, ROWS, OUT_STRIDE, OUT_START, SCALE.
// Bindings: step, index, quants, scales, out. Roles: quant/*, layout_*.
@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group_id: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let i = (group_id.y * groups.x + group_id.x) * WORKGROUP + local.x;
    let t = i / UNITS;
    let unit = i % UNITS;
    if (t >= min(TOKENS, step.tokens)) {
        return;
    }
    let wanted = index_of(t);
    if (wanted < FIRST_ROW || wanted - FIRST_ROW >= ROWS) {
        return;
    }
    let row = wanted - FIRST_ROW;
    let codes = quants8(row, unit);
    let scale = group_scale(row, unit * 8u / GROUP);
    let low = (codes.low * scale.x - scale.y) * SCALE;
    let high = (codes.high * scale.x - scale.y) * SCALE;
    let first = t * OUT_STRIDE + OUT_START;
    for (var c = 0u; c < 8u; c++) {
        let column = unit * 8u + c;
        if (column < COLUMNS) {
            out[first + column] = select(high[c % 4u], low[c % 4u], c < 4u);
        }
    }
}
