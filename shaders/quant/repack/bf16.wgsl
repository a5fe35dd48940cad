// BF16 row: bfloat16[columns]. Padded with zeros to whole units.
fn packed_quants(row: u32, word: u32) -> u32 {
    if (word * 2u >= COLUMNS) {
        return 0u;
    }
    return raw_half_pair(row, word * 4u, 2u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    return 0u;
}
