// F16: four words per unit, two weights in a word, no scales. No shader-f16 is needed.
const GROUP: u32 = 8u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let i = quant_index(row, unit * 4u);
    return Eight(
        vec4f(unpack2x16float(quants[i]), unpack2x16float(quants[i + 1u])),
        vec4f(unpack2x16float(quants[i + 2u]), unpack2x16float(quants[i + 3u])),
    );
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return vec2f(1.0, 0.0);
}
