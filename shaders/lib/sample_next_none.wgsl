// After a prefill: the chosen id is kept in the slot only.
fn feed(row: u32, id: u32, position: u32) {}
