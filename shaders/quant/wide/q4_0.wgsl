// Q4_0 by 32 columns: see quant/q4_0.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;

fn unit_codes(word: u32) -> Eight {
    let codes = nibbles8(word);
    return Eight(codes.low - 8.0, codes.high - 8.0);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return vec2f(half_scale(row, group), 0.0);
}
