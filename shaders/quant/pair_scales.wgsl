// One word per group: f16 d, f16 m, where weight = d * code + m.
fn pair_scale(row: u32, group: u32) -> vec2f {
    let pair = unpack2x16float(scales[scale_index(row, group)]);
    return vec2f(pair.x, -pair.y);
}
