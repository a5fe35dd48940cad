// Codes of 32 columns in four consecutive words, one per unit, read at once. Binding: quants: array<vec4u>. The role gives
// `fn unit_codes(word) -> Eight`.
alias Words = vec4u;

fn words32(row: u32, block: u32) -> Words {
    return quants[row * (QUANT_WORDS / 4u) + block];
}

fn codes8(words: Words, u: u32) -> Eight {
    return unit_codes(words[u]);
}
