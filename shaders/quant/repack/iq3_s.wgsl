// IQ3_S block of 256: f16 d, low code bytes[64], ninth code bits[8], signs[32], scales[4].
fn packed_quants(row: u32, word: u32) -> u32 {
    let start = word / 24u * 110u;
    let block = word / 3u % 8u;
    let k = word % 3u;
    return raw_u32(row, start + select(2u + block * 8u + k * 4u, 74u + block * 4u, k == 2u));
}

fn packed_scales(row: u32, word: u32) -> u32 {
    let start = word / 4u * 110u;
    switch word % 4u {
        case 0u: { return raw_u16(row, start); }
        case 1u: { return raw_u32(row, start + 106u); }
        case 2u: { return raw_u32(row, start + 66u); }
        default: { return raw_u32(row, start + 70u); }
    }
}
