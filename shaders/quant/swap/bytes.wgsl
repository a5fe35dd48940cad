// Q8_0 by masks: as swap/masks, with two words per unit. The highest bits of the first three bytes are flipped: these are the
// code plus 128, and the last byte, as a signed number, is the code.
struct Lanes {
    bits: vec4u,
}

fn swap_lanes(lane: u32) -> Lanes {
    return Lanes(vec4u(255u) << ((vec4u(lane) ^ vec4u(0u, 1u, 2u, 3u)) * 8u));
}

fn next_lanes(lanes: Lanes) -> Lanes {
    return lanes;
}

fn swap_powers(lane: u32) -> vec2f {
    return vec2f(bitcast<f32>((127u - 8u * lane) << 23u));
}

fn swap_offsets(lane: u32) -> vec2f {
    return vec2f(select(-128.0, 0.0, lane == 3u));
}

fn swap_more(row: u32, group: u32) -> u32 {
    return 0u;
}

fn masked(word: u32, bits: vec4u) -> vec4f {
    return vec4f(bitcast<vec4i>(vec4u(word ^ 0x00808080u) & bits));
}

fn swap_codes(row: u32, unit: u32, more: u32, lanes: Lanes) -> Eight {
    let i = quant_index(row, unit * 2u);
    return Eight(masked(quants[i], lanes.bits), masked(quants[i + 1u], lanes.bits));
}
