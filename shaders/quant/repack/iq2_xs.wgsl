// IQ2_XS block of 256: f16 d, codes[32] as u16, scales[8].
fn packed_quants(row: u32, word: u32) -> u32 {
    return raw_u32(row, word / 16u * 74u + 2u + word % 16u * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    let start = word / 3u * 74u;
    if (word % 3u == 0u) {
        return raw_u16(row, start);
    }
    return raw_u32(row, start + 62u + word % 3u * 4u);
}
