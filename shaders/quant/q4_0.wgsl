// Q4_0: weight = d * (nibble - 8). One word per unit; f16 d per 32.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let codes = nibbles8(quants[quant_index(row, unit)]);
    return Eight(codes.low - 8.0, codes.high - 8.0);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return vec2f(half_scale(row, group), 0.0);
}
