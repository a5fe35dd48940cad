// TQ2_0 block of 256: quants[64], f16 d.
fn packed_quants(row: u32, word: u32) -> u32 {
    let block = word / 2u % 8u;
    let offset = word / 16u * 66u + block / 4u * 32u + word % 2u * 16u;
    return raw_two_bits(row, offset, block % 4u * 2u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    return raw_half_pair(row, word * 132u + 64u, 66u);
}
