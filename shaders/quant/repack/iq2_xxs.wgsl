// IQ2_XXS block of 256: f16 d, per 32 columns four codes and a word (four sign codes, scale).
fn packed_quants(row: u32, word: u32) -> u32 {
    return raw_u32(row, word / 16u * 66u + 2u + word % 16u * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    return raw_half_pair(row, word * 132u, 66u);
}
