// F32: eight words per unit, no scales.
const GROUP: u32 = 8u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let i = quant_index(row, unit * 8u);
    return Eight(
        bitcast<vec4f>(vec4u(quants[i], quants[i + 1u], quants[i + 2u], quants[i + 3u])),
        bitcast<vec4f>(vec4u(quants[i + 4u], quants[i + 5u], quants[i + 6u], quants[i + 7u])),
    );
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return vec2f(1.0, 0.0);
}
