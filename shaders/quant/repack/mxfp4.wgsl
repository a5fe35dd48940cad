// MXFP4 block of 32: exponent byte, 16 bytes (low nibbles: weights 0..15, high nibbles: 16..31).
fn packed_quants(row: u32, word: u32) -> u32 {
    let unit = word % 4u;
    return raw_nibbles(row, word / 4u * 17u + 1u + unit % 2u * 8u, unit / 2u * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    var packed = 0u;
    for (var k = 0u; k < 4u; k++) {
        let offset = (word * 4u + k) * 17u;
        if (offset < ROW_BYTES) {
            packed |= raw_u8(row, offset) << (8u * k);
        }
    }
    return packed;
}
