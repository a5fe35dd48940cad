// 32 codes of eight bits. Roles: quant/wide/q8_0, linear/rounded.
fn codes32(row: u32, block: u32) -> Codes {
    let words = words32(row, block);
    return Codes(
        vec4u(words.low.x, words.low.z, words.high.x, words.high.z),
        vec4u(words.low.y, words.low.w, words.high.y, words.high.w),
    );
}
