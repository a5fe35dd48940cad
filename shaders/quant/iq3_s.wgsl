// IQ3_S: weight = d * (1 + 2 * scale) * signed point of four. Per 32: eight low code bytes in two words, four sign
// bytes. Scales per 256: d, eight four-bit scales, 64 ninth code bits in two words.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let block = quant_index(row, unit / 4u * 3u);
    let codes = quants[block + unit % 4u / 2u] >> (unit % 2u * 16u);
    let ninth = scales[scale_index(row, unit / 32u * 4u + 2u + unit % 32u / 16u)] >> (unit % 16u * 2u);
    let signs = quants[block + 2u] >> (unit % 4u * 8u);
    return signed8(
        table[(codes & 0xffu) | ((ninth & 1u) << 8u)],
        table[((codes >> 8u) & 0xffu) | ((ninth & 2u) << 7u)],
        signs,
    );
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let i = scale_index(row, group / 8u * 4u);
    let scale = (scales[i + 1u] >> (group % 8u * 4u)) & 15u;
    return vec2f(unpack2x16float(scales[i]).x * f32(1u + 2u * scale), 0.0);
}
