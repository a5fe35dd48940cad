// Q8_0 block of 32: f16 d, int8[32].
fn packed_quants(row: u32, word: u32) -> u32 {
    return raw_u32(row, word / 8u * 34u + 2u + (word % 8u) * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    return raw_half_pair(row, word * 68u, 34u);
}
