// Five-bit codes: per 32 columns four nibble words and one word of fifth bits.
fn five_bits8(row: u32, unit: u32) -> Eight {
    let block = quant_index(row, unit / 4u * 5u);
    let word = quants[block + unit % 4u];
    let fifth = quants[block + 4u] >> (unit % 4u * 8u);
    return Eight(
        vec4f(unpack4xU8((word & 0x0f0f0f0fu) | (spread4(fifth) << 4u))),
        vec4f(unpack4xU8(((word >> 4u) & 0x0f0f0f0fu) | (spread4(fifth >> 4u) << 4u))),
    );
}
