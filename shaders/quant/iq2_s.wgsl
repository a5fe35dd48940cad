// IQ2_S: weight = d * (0.5 + scale) / 4 * signed point. Per 32: four low code bytes, four sign bytes; four-bit scales
// per 16. Scales per 256: d, sixteen scales in two words, two upper code bits per unit in two words.
const GROUP: u32 = 16u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let block = quant_index(row, unit / 4u * 2u);
    let shift = unit % 4u * 8u;
    let upper = scales[scale_index(row, unit / 32u * 5u + 3u + unit % 32u / 16u)] >> (unit % 16u * 2u);
    let code = ((quants[block] >> shift) & 0xffu) | ((upper & 3u) << 8u);
    return signed8(table[code * 2u], table[code * 2u + 1u], quants[block + 1u] >> shift);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let i = scale_index(row, group / 16u * 5u);
    let scale = (scales[i + 1u + group % 16u / 8u] >> (group % 8u * 4u)) & 15u;
    return vec2f(unpack2x16float(scales[i]).x * (0.5 + f32(scale)) * 0.25, 0.0);
}
