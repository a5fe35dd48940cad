// Rows are chosen by position. Binding: positions: array<u32>.
fn index_of(t: u32) -> u32 {
    return positions[t];
}
