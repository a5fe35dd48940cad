// Q4_1: weight = d * nibble + m. One word per unit; f16 d and m per 32.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = true;

fn quants8(row: u32, unit: u32) -> Eight {
    return nibbles8(quants[quant_index(row, unit)]);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return pair_scale(row, group);
}
