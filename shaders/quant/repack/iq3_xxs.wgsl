// IQ3_XXS block of 256: f16 d, codes[64], words[8] (four sign codes, scale).
fn packed_quants(row: u32, word: u32) -> u32 {
    let start = word / 24u * 98u;
    let block = word / 3u % 8u;
    let k = word % 3u;
    return raw_u32(row, start + select(2u + block * 8u + k * 4u, 66u + block * 4u, k == 2u));
}

fn packed_scales(row: u32, word: u32) -> u32 {
    return raw_half_pair(row, word * 196u, 98u);
}
