// TQ2_0: weight = d * (code - 1), two bits. f16 d per 256.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let codes = two_bits8(quants[quant_index(row, unit / 2u)], unit);
    return Eight(vec4f(unpack4xU8(codes.x)) - 1.0, vec4f(unpack4xU8(codes.y)) - 1.0);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return vec2f(half_scale(row, group / 8u), 0.0);
}
