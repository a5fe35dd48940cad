// Nibble words by masks: component j of a lane is column l ^ j of four. The highest bit of a word is flipped, so that its last
// nibble, as a signed number, is the code minus 8, and all others stay what they are. Powers and offsets undo that.
struct Lanes {
    low: vec4u,   // bits of columns 0 to 3
    high: vec4u,  // bits of columns 4 to 7
}

fn swap_columns(lane: u32) -> vec4u {
    return vec4u(lane) ^ vec4u(0u, 1u, 2u, 3u);
}

fn swap_lanes(lane: u32) -> Lanes {
    let shift = swap_columns(lane) * 8u;
    return Lanes(vec4u(15u) << shift, vec4u(240u) << shift);
}

fn next_lanes(lanes: Lanes) -> Lanes {
    return lanes;
}

fn swap_powers(lane: u32) -> vec2f {
    let power = bitcast<f32>((127u - 8u * lane) << 23u);
    return vec2f(power, power * 0.0625);
}

fn swap_offsets(lane: u32) -> vec2f {
    return vec2f(-CODE_OFFSET, select(0.0, 8.0, lane == 3u) - CODE_OFFSET);
}

fn swap_more(row: u32, group: u32) -> u32 {
    return 0u;
}

fn masked(word: u32, bits: vec4u) -> vec4f {
    return vec4f(bitcast<vec4i>(vec4u(word) & bits));
}

fn swap_codes(row: u32, unit: u32, more: u32, lanes: Lanes) -> Eight {
    let word = quants[quant_index(row, unit)] ^ 0x80000000u;
    return Eight(masked(word, lanes.low), masked(word, lanes.high));
}
