// 32 codes of eight bits, in the order of linear/int8. Role: quant/wide/q8_0.
struct Codes {
    low: vec4u,
    high: vec4u,
}

fn codes32(row: u32, block: u32) -> Codes {
    let words = words32(row, block);
    return Codes(
        vec4u(words.low.x, words.low.z, words.high.x, words.high.z),
        vec4u(words.low.y, words.low.w, words.high.y, words.high.w),
    );
}
