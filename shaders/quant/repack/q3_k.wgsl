// Q3_K block of 256: third bits[32], low two bits[64], scales[12] (6 bits each), f16 d.
fn packed_quants(row: u32, word: u32) -> u32 {
    let start = word / 24u * 110u;
    let block = word / 3u % 8u;
    let k = word % 3u;
    if (k == 2u) {
        return raw_bits(row, start, block);
    }
    return raw_two_bits(row, start + 32u + block / 4u * 32u + k * 16u, block % 4u * 2u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    let start = word / 5u * 110u;
    if (word % 5u == 0u) {
        return raw_u16(row, start + 108u);
    }
    let k = word % 5u - 1u;
    let low = (raw_u32(row, start + 96u + k % 2u * 4u) >> (k / 2u * 4u)) & 0x0f0f0f0fu;
    let high = (raw_u32(row, start + 104u) >> (k * 2u)) & 0x03030303u;
    return low | (high << 4u);
}
