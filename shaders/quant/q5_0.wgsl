// Q5_0: weight = d * (code - 16), five bits.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let codes = five_bits8(row, unit);
    return Eight(codes.low - 16.0, codes.high - 16.0);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return vec2f(half_scale(row, group), 0.0);
}
