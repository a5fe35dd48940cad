// Q4_K block of 256: f16 d, f16 dmin, scales and minimums[12], quants[128].
fn packed_quants(row: u32, word: u32) -> u32 {
    let block = word / 4u % 8u;
    let offset = word / 32u * 144u + 16u + block / 2u * 32u + word % 4u * 8u;
    return raw_nibbles(row, offset, block % 2u * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    let start = word / 5u * 144u;
    if (word % 5u == 0u) {
        return raw_u32(row, start);
    }
    return raw_k_scales(row, start + 4u, word % 5u - 1u);
}
