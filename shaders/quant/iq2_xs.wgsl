// IQ2_XS: weight = d * (0.5 + scale) / 4 * signed point. A unit is 16 bits: nine of code, seven of signs; four-bit
// scales per 16. Scales per 256: d, then sixteen nibbles in two words.
const GROUP: u32 = 16u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let word = quants[quant_index(row, unit / 2u)] >> (unit % 2u * 16u);
    let code = word & 511u;
    return signed8(table[code * 2u], table[code * 2u + 1u], even_signs(word >> 9u));
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let i = scale_index(row, group / 16u * 3u);
    let scale = (scales[i + 1u + group % 16u / 8u] >> (group % 8u * 4u)) & 15u;
    return vec2f(unpack2x16float(scales[i]).x * (0.5 + f32(scale)) * 0.25, 0.0);
}
