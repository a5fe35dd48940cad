// IQ3_XXS: weight = d * (0.5 + scale) / 2 * signed point of four. Per 32: eight codes in two words, then a word of
// four seven-bit sign codes and a four-bit scale. f16 d per 256.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let block = quant_index(row, unit / 4u * 3u);
    let codes = quants[block + unit % 4u / 2u] >> (unit % 2u * 16u);
    let signs = even_signs(quants[block + 2u] >> (unit % 4u * 7u));
    return signed8(table[codes & 0xffu], table[(codes >> 8u) & 0xffu], signs);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let scale = quants[quant_index(row, group * 3u + 2u)] >> 28u;
    return vec2f(half_scale(row, group / 8u) * (0.5 + f32(scale)) * 0.5, 0.0);
}
