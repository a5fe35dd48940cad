// Five-bit codes by masks: as swap/masks, and a word of fifth bits per 32 columns. A fifth bit is brought to its nibble's place
// by a power of two; as a signed number the highest is negative.
struct Lanes {
    low: vec4u,
    high: vec4u,
    fifth_low: vec4u,
    fifth_high: vec4u,
    place_low: vec4f,
    place_high: vec4f,
}

fn swap_columns(lane: u32) -> vec4u {
    return vec4u(lane) ^ vec4u(0u, 1u, 2u, 3u);
}

fn powers_of_two(exponents: vec4u) -> vec4f {
    return bitcast<vec4f>((exponents + 127u) << vec4u(23u));
}

fn swap_lanes(lane: u32) -> Lanes {
    let column = swap_columns(lane);
    let shift = column * 8u;
    let place = powers_of_two(column * 7u + 4u);
    return Lanes(
        vec4u(15u) << shift,
        vec4u(240u) << shift,
        vec4u(1u) << column,
        vec4u(16u) << column,
        place,
        place,
    );
}

fn next_lanes(lanes: Lanes) -> Lanes {
    return Lanes(
        lanes.low,
        lanes.high,
        lanes.fifth_low * 256u,
        lanes.fifth_high * 256u,
        lanes.place_low * 0.00390625,
        lanes.place_high * 0.00390625,
    );
}

fn swap_powers(lane: u32) -> vec2f {
    let power = bitcast<f32>((127u - 8u * lane) << 23u);
    return vec2f(power, power * 0.0625);
}

fn swap_offsets(lane: u32) -> vec2f {
    return vec2f(-CODE_OFFSET, select(0.0, 8.0, lane == 3u) - CODE_OFFSET);
}

fn swap_more(row: u32, group: u32) -> u32 {
    return quants[quant_index(row, group * 5u + 4u)];
}

fn masked(word: u32, bits: vec4u) -> vec4f {
    return vec4f(bitcast<vec4i>(vec4u(word) & bits));
}

fn swap_codes(row: u32, unit: u32, more: u32, lanes: Lanes) -> Eight {
    let word = quants[quant_index(row, unit + unit / 4u)] ^ 0x80000000u;
    return Eight(
        masked(word, lanes.low) + abs(masked(more, lanes.fifth_low)) * lanes.place_low,
        masked(word, lanes.high) + abs(masked(more, lanes.fifth_high)) * lanes.place_high,
    );
}
