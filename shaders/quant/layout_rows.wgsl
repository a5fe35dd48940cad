// Where the words of a weight lie: row after row. Header: QUANT_WORDS, SCALE_WORDS (words per row).
fn quant_index(row: u32, word: u32) -> u32 {
    return row * QUANT_WORDS + word;
}

fn scale_index(row: u32, word: u32) -> u32 {
    return row * SCALE_WORDS + word;
}
