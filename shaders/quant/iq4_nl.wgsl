// IQ4_NL: weight = d * level(nibble). One word per unit; f16 d per 32.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;
const LEVELS = vec4u(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);  // grids.IQ4_VALUES

fn quants8(row: u32, unit: u32) -> Eight {
    return levels8(quants[quant_index(row, unit)]);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return vec2f(half_scale(row, group), 0.0);
}
