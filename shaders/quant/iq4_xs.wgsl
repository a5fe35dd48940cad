// IQ4_XS: weight = d * (scale - 32) * level(nibble); scale has six bits per 32 columns.
// Scales per 256, as in the file: d | upper two bits of eight scales << 16, then their lower four bits.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = false;
const LEVELS = vec4u(0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u);  // grids.IQ4_VALUES

fn quants8(row: u32, unit: u32) -> Eight {
    return levels8(quants[quant_index(row, unit)]);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let i = scale_index(row, group / 8u * 2u);
    let first = scales[i];
    let low = (scales[i + 1u] >> (group % 8u * 4u)) & 15u;
    let high = (first >> (16u + group % 8u * 2u)) & 3u;
    return vec2f(unpack2x16float(first).x * (f32(low | (high << 4u)) - 32.0), 0.0);
}
