// Q8_0: weight = d * int8. Two words per unit; f16 d per 32.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let i = quant_index(row, unit * 2u);
    return Eight(vec4f(unpack4xI8(quants[i])), vec4f(unpack4xI8(quants[i + 1u])));
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return vec2f(half_scale(row, group), 0.0);
}
