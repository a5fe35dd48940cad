// Q5_1: weight = d * code + m, five bits.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = true;

fn quants8(row: u32, unit: u32) -> Eight {
    return five_bits8(row, unit);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return pair_scale(row, group);
}
