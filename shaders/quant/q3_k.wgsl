// Q3_K: weight = d * (scale - 32) * (code - 4), three bits; scale has six bits per 16 columns.
// Quants per 32: two words of low bits, one of third bits. Scales per 256: d, then sixteen bytes.
const GROUP: u32 = 16u;
const HAS_MINIMUM: bool = false;

fn quants8(row: u32, unit: u32) -> Eight {
    let block = quant_index(row, unit / 4u * 3u);
    let low = two_bits8(quants[block + unit % 4u / 2u], unit);
    let third = quants[block + 2u] >> (unit % 4u * 8u);
    return Eight(
        vec4f(unpack4xU8(low.x | (spread4(third) << 2u))) - 4.0,
        vec4f(unpack4xU8(low.y | (spread4(third >> 4u) << 2u))) - 4.0,
    );
}

fn group_scale(row: u32, group: u32) -> vec2f {
    let i = scale_index(row, group / 16u * 5u);
    let byte = (scales[i + 1u + group % 16u / 4u] >> (group % 4u * 8u)) & 0xffu;
    return vec2f(unpack2x16float(scales[i]).x * (f32(byte) - 32.0), 0.0);
}
