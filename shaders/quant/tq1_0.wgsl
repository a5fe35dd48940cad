// TQ1_0: weight = d * (digit - 1). A unit is one number of 13 bits, eight base-3 digits, first column least
// significant; 13 words per 256 columns. f16 d per 256.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;

fn digits4(number: u32) -> vec4f {
    // number / (1, 3, 9, 27) for number < 81
    let quotients = (vec4u(number) * vec4u(1024u, 342u, 114u, 38u)) >> vec4u(10u);
    return vec4f(vec4i(quotients) - 3 * vec4i(vec4u(quotients.yzw, 0u)) - 1);
}

fn quants8(row: u32, unit: u32) -> Eight {
    let bit = unit % 32u * 13u;
    let i = quant_index(row, unit / 32u * 13u + bit / 32u);
    var number = quants[i] >> (bit % 32u);
    if (bit % 32u > 19u) {
        number |= quants[i + 1u] << (32u - bit % 32u);
    }
    number &= 0x1fffu;
    let high = (number * 12946u) >> 20u;  // number / 81
    return Eight(digits4(number - high * 81u), digits4(high));
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return vec2f(half_scale(row, group / 8u), 0.0);
}
