// Role: keys of a slot, for attention that is not causal.
fn slot_length(slot: u32) -> u32 {
    return lengths[slot];
}
