// One f16 scale per group, two in a word. Needs: scales, layout.
fn half_scale(row: u32, group: u32) -> f32 {
    let pair = unpack2x16float(scales[scale_index(row, group / 2u)]);
    return select(pair.x, pair.y, (group & 1u) == 1u);
}
