// BF16: four words per unit, two weights in a word (the upper halves of f32), no scales.
const GROUP: u32 = 8u;
const HAS_MINIMUM: bool = false;

fn bf16_pair(word: u32) -> vec2f {
    return bitcast<vec2f>(vec2u(word << 16u, word & 0xffff0000u));
}

fn quants8(row: u32, unit: u32) -> Eight {
    let i = quant_index(row, unit * 4u);
    return Eight(
        vec4f(bf16_pair(quants[i]), bf16_pair(quants[i + 1u])),
        vec4f(bf16_pair(quants[i + 2u]), bf16_pair(quants[i + 3u])),
    );
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return vec2f(1.0, 0.0);
}
