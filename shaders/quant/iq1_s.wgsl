// IQ1_S: weight = d * (2 * scale + 1) * (point +- 1/8). Quants per 256: eight words of low code bytes, four words of
// (4 x 3 upper code bits, 3-bit scale, sign of delta) per 32. f16 d per 256.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;

fn iq1_word(row: u32, block: u32) -> u32 {
    return quants[quant_index(row, block / 8u * 12u + 8u + block % 8u / 2u)] >> (block % 2u * 16u);
}

fn quants8(row: u32, unit: u32) -> Eight {
    let low = quants[quant_index(row, unit / 32u * 12u + unit % 32u / 4u)] >> (unit % 4u * 8u);
    let word = iq1_word(row, unit / 4u);
    let code = (low & 0xffu) | (((word >> (unit % 4u * 3u)) & 7u) << 8u);
    let delta = select(0.125, -0.125, (word & 0x8000u) != 0u);
    return Eight(
        vec4f(unpack4xI8(table[code * 2u])) + delta,
        vec4f(unpack4xI8(table[code * 2u + 1u])) + delta,
    );
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let scale = (iq1_word(row, group) >> 12u) & 7u;
    return vec2f(half_scale(row, group / 8u) * f32(2u * scale + 1u), 0.0);
}
