// IQ1_M: weight = d * (2 * scale + 1) * (point +- 1/8); delta's sign per 8, 3-bit scales per 16. Quants per 256: eight
// words of low code bytes, four words of nibbles (3 upper code bits, sign of delta) per unit. Scales per 256: d, then
// sixteen scales in two words, four in every half.
const GROUP: u32 = 16u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let super_block = unit / 32u * 12u;
    let low = quants[quant_index(row, super_block + unit % 32u / 4u)] >> (unit % 4u * 8u);
    let nibble = quants[quant_index(row, super_block + 8u + unit % 32u / 8u)] >> (unit % 8u * 4u);
    let code = (low & 0xffu) | ((nibble & 7u) << 8u);
    let delta = select(0.125, -0.125, (nibble & 8u) != 0u);
    return Eight(
        vec4f(unpack4xI8(table[code * 2u])) + delta,
        vec4f(unpack4xI8(table[code * 2u + 1u])) + delta,
    );
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let i = scale_index(row, group / 16u * 3u);
    let shift = group % 8u / 4u * 16u + group % 4u * 3u;
    let scale = (scales[i + 1u + group % 16u / 8u] >> shift) & 7u;
    return vec2f(unpack2x16float(scales[i]).x * f32(2u * scale + 1u), 0.0);
}
