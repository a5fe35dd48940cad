// IQ4_XS block of 256: f16 d, upper bits of scales (2 each)[2], lower nibbles of scales[4], quants[128]; per 32 columns
// 16 bytes (low nibbles: weights 0..15, high nibbles: 16..31).
fn packed_quants(row: u32, word: u32) -> u32 {
    let unit = word % 4u;
    let offset = word / 32u * 136u + 8u + word / 4u % 8u * 16u + unit % 2u * 8u;
    return raw_nibbles(row, offset, unit / 2u * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    return raw_u32(row, word / 2u * 136u + word % 2u * 4u);
}
