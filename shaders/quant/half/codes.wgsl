// 32 codes in f16. Roles: quant/wide/*, linear/rounded, linear/f16.
fn codes32(row: u32, block: u32) -> Codes {
    let words = words32(row, block);
    let c_0 = codes8(words, 0u);
    let c_1 = codes8(words, 1u);
    let c_2 = codes8(words, 2u);
    let c_3 = codes8(words, 3u);
    return Codes(
        Half(vec4h(c_0.low), vec4h(c_1.low), vec4h(c_2.low), vec4h(c_3.low)),
        Half(vec4h(c_0.high), vec4h(c_1.high), vec4h(c_2.high), vec4h(c_3.high)),
    );
}
