// IQ1_M block of 256: low code bytes[32], nibbles[16], words[4] as u16 (four 3-bit scales and a quarter of f16 d each).
fn packed_quants(row: u32, word: u32) -> u32 {
    return raw_u32(row, word / 12u * 56u + word % 12u * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    let start = word / 3u * 56u + 48u;
    if (word % 3u > 0u) {
        return raw_u32(row, start + word % 3u * 4u - 4u);
    }
    var d = 0u;
    for (var k = 0u; k < 4u; k++) {
        d |= (raw_u16(row, start + 2u * k) >> 12u) << (4u * k);
    }
    return d;
}
