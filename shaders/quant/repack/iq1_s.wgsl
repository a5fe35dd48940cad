// IQ1_S block of 256: f16 d, low code bytes[32], words[8] as u16.
fn packed_quants(row: u32, word: u32) -> u32 {
    return raw_u32(row, word / 12u * 50u + 2u + word % 12u * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    return raw_half_pair(row, word * 100u, 50u);
}
