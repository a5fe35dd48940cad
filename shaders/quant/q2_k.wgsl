// Q2_K: weight = d * scale * code - dmin * minimum; scale and minimum have four bits per 16 columns.
// Scales per 256: (d, dmin), then sixteen bytes (scale | minimum << 4).
const GROUP: u32 = 16u;
const HAS_MINIMUM: bool = true;

fn quants8(row: u32, unit: u32) -> Eight {
    let codes = two_bits8(quants[quant_index(row, unit / 2u)], unit);
    return Eight(vec4f(unpack4xU8(codes.x)), vec4f(unpack4xU8(codes.y)));
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let i = scale_index(row, group / 16u * 5u);
    let byte = (scales[i + 1u + group % 16u / 4u] >> (group % 4u * 8u)) & 0xffu;
    return unpack2x16float(scales[i]) * vec2f(f32(byte & 15u), f32(byte >> 4u));
}
