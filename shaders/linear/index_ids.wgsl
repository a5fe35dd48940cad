// Rows are chosen by token id. Binding: ids: array<u32>.
fn index_of(t: u32) -> u32 {
    return ids[t];
}
