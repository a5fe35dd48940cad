// Codes of 32 columns of a row, for kernels that go by 32: any format, word by word.
struct Words {
    row: u32,
    block: u32,
}

fn words32(row: u32, block: u32) -> Words {
    return Words(row, block);
}

// Codes of unit u of the four.
fn codes8(words: Words, u: u32) -> Eight {
    return quants8(words.row, words.block * 4u + u);
}
