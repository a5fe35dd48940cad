// Q6_K: weight = d * scale * (code - 32), six bits; scale is int8 per 16 columns.
// Quants per 32: four nibble words, two words of upper bits. Scales per 256: d, then sixteen int8.
const GROUP: u32 = 16u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let block = quant_index(row, unit / 4u * 6u);
    let word = quants[block + unit % 4u];
    let upper = two_bits8(quants[block + 4u + unit % 4u / 2u], unit) << vec2u(4u);
    return Eight(
        vec4f(unpack4xU8((word & 0x0f0f0f0fu) | upper.x)) - 32.0,
        vec4f(unpack4xU8(((word >> 4u) & 0x0f0f0f0fu) | upper.y)) - 32.0,
    );
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let i = scale_index(row, group / 16u * 5u);
    let word = scales[i + 1u + group % 16u / 4u];
    let scale = bitcast<i32>(word << (24u - group % 4u * 8u)) >> 24u;
    return vec2f(unpack2x16float(scales[i]).x * f32(scale), 0.0);
}
