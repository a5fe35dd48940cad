// The chosen id is the input of the row's next decode step.
fn feed(row: u32, id: u32, position: u32) {
    ids[row] = id;
    positions[row] = position;
}
