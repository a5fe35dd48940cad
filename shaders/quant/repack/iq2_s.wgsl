// IQ2_S block of 256: f16 d, low code bytes[32], signs[32], upper code bits[8], scales[8].
fn packed_quants(row: u32, word: u32) -> u32 {
    return raw_u32(row, word / 16u * 82u + 2u + word / 2u % 8u * 4u + word % 2u * 32u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    let start = word / 5u * 82u;
    switch word % 5u {
        case 0u: { return raw_u16(row, start); }
        case 1u: { return raw_u32(row, start + 74u); }
        case 2u: { return raw_u32(row, start + 78u); }
        case 3u: { return raw_u32(row, start + 66u); }
        default: { return raw_u32(row, start + 70u); }
    }
}
