// Q5_K block of 256: f16 d, f16 dmin, scales and minimums[12], fifth bits[32], quants[128].
fn packed_quants(row: u32, word: u32) -> u32 {
    let start = word / 40u * 176u;
    let block = word / 5u % 8u;
    let unit = word % 5u;
    if (unit == 4u) {
        return raw_bits(row, start + 16u, block);
    }
    return raw_nibbles(row, start + 48u + block / 2u * 32u + unit * 8u, block % 2u * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    let start = word / 5u * 176u;
    if (word % 5u == 0u) {
        return raw_u32(row, start);
    }
    return raw_k_scales(row, start + 4u, word % 5u - 1u);
}
