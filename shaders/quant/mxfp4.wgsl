// MXFP4: weight = 2^(e - 128) * level(nibble), levels doubled. One word per unit; one byte e per 32, four in a word.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;
const LEVELS = vec4u(0x03020100u, 0x0c080604u, 0xfdfeff00u, 0xf4f8fafcu);  // grids.MXFP4_VALUES

fn quants8(row: u32, unit: u32) -> Eight {
    return levels8(quants[quant_index(row, unit)]);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let exponent = (scales[scale_index(row, group / 4u)] >> (group % 4u * 8u)) & 0xffu;
    // below 2 the result is a subnormal f32
    let bits = select((max(exponent, 1u) - 1u) << 23u, 0x00200000u << min(exponent, 1u), exponent < 2u);
    return vec2f(bitcast<f32>(bits), 0.0);
}
