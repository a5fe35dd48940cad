// F32 row: float32[columns]. Padded with zeros to whole units.
fn packed_quants(row: u32, word: u32) -> u32 {
    if (word >= COLUMNS) {
        return 0u;
    }
    return raw_u32(row, word * 4u);
}

fn packed_scales(row: u32, word: u32) -> u32 {
    return 0u;
}
