// Role: position and slot of a token, from storage arrays.
fn token_position(token: u32) -> u32 {
    return positions[token];
}

fn token_slot(token: u32) -> u32 {
    return slots[token];
}
