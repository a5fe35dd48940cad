// Q6_K block of 256: low nibbles[128], upper two bits[64], int8 scales[16], f16 d.
fn packed_quants(row: u32, word: u32) -> u32 {
    let start = word / 48u * 210u;
    let block = word / 6u % 8u;
    let k = word % 6u;
    if (k >= 4u) {
        let offset = start + 128u + block / 4u * 32u + (k - 4u) * 16u;
        return raw_two_bits(row, offset, block % 4u * 2u);
    }
    let offset = start + block / 4u * 64u + block % 2u * 32u + k * 8u;
    return raw_nibbles(row, offset, block % 4u / 2u * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    let start = word / 5u * 210u;
    if (word % 5u == 0u) {
        return raw_u16(row, start + 208u);
    }
    return raw_u32(row, start + 188u + word % 5u * 4u);
}
