// IQ2_XXS: weight = d * (0.5 + scale) / 4 * signed point. Per 32, as in the file: four codes, then a word of four
// seven-bit sign codes and a four-bit scale. f16 d per 256.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let block = quant_index(row, unit / 4u * 2u);
    let code = (quants[block] >> (unit % 4u * 8u)) & 0xffu;
    let signs = even_signs(quants[block + 1u] >> (unit % 4u * 7u));
    return signed8(table[code * 2u], table[code * 2u + 1u], signs);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let scale = quants[quant_index(row, group * 2u + 1u)] >> 28u;
    return vec2f(half_scale(row, group / 8u) * (0.5 + f32(scale)) * 0.25, 0.0);
}
