// Q4_1 block of 32: f16 d, f16 m, 16 bytes (low nibbles: weights 0..15, high nibbles: 16..31).
fn packed_quants(row: u32, word: u32) -> u32 {
    let unit = word % 4u;
    return raw_nibbles(row, word / 4u * 20u + 4u + unit % 2u * 8u, unit / 2u * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    return raw_u32(row, word * 20u);
}
