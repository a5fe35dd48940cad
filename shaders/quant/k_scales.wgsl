// Scales of Q4_K and Q5_K, per 256: (d, dmin), then eight pairs of bytes (scale, minimum) of six bits.
// d * scale is exact in f32.
fn k_scale(row: u32, group: u32) -> vec2f {
    let i = scale_index(row, group / 8u * 5u);
    let pair = scales[i + 1u + group % 8u / 2u] >> (group % 2u * 16u);
    return unpack2x16float(scales[i]) * vec2f(f32(pair & 0xffu), f32((pair >> 8u) & 0xffu));
}
