// Q8_0 by 32 columns, eight words read as two vectors: see quant/q8_0. Binding: quants: array<vec4u>.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;

struct Words {
    low: vec4u,
    high: vec4u,
}

fn words32(row: u32, block: u32) -> Words {
    let i = row * (QUANT_WORDS / 4u) + block * 2u;
    return Words(quants[i], quants[i + 1u]);
}

fn codes8(words: Words, u: u32) -> Eight {
    let half = select(words.low, words.high, u >= 2u);
    let at = u % 2u * 2u;
    return Eight(vec4f(unpack4xI8(half[at])), vec4f(unpack4xI8(half[at + 1u])));
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return vec2f(half_scale(row, group), 0.0);
}
