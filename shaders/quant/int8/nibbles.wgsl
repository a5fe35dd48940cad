// 32 codes of four bits as bytes. Roles: quant/wide/nibbles, linear/rounded.
fn codes32(row: u32, block: u32) -> Codes {
    let words = words32(row, block);
    return Codes(words & vec4u(0x0f0f0f0fu), (words >> vec4u(4u)) & vec4u(0x0f0f0f0fu));
}
