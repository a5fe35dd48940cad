// Q2_K block of 256: scales[16] (4 bits scale, 4 bits minimum), quants[64], f16 d, f16 dmin.
fn packed_quants(row: u32, word: u32) -> u32 {
    let block = word / 2u % 8u;
    let offset = word / 16u * 84u + 16u + block / 4u * 32u + word % 2u * 16u;
    return raw_two_bits(row, offset, block % 4u * 2u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    return raw_u32(row, word / 5u * 84u + select(word % 5u * 4u - 4u, 80u, word % 5u == 0u));
}
