// Role: position and slot of a token, from uniforms (kernels that use up their storage bindings).
fn token_position(token: u32) -> u32 {
    return positions[token / 4u][token % 4u];
}

fn token_slot(token: u32) -> u32 {
    return slots[token / 4u][token % 4u];
}
