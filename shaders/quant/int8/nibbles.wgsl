// 32 codes of four bits as bytes, in the order of linear/int8. Role: quant/wide/nibbles.
struct Codes {
    low: vec4u,
    high: vec4u,
}

fn codes32(row: u32, block: u32) -> Codes {
    let words = words32(row, block);
    return Codes(words & vec4u(0x0f0f0f0fu), (words >> vec4u(4u)) & vec4u(0x0f0f0f0fu));
}
