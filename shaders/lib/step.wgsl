// Run-time values of one step, written by the host before it (or once before a run of decode steps).
// Bound as `var<uniform> step: Step` by every kernel that handles fewer tokens than its plan's capacity.
struct Step {
    tokens: u32,      // T: tokens in this step; rows beyond are padding and must not be read or written
    outputs: u32,     // R: rows whose logits are wanted
    sequences: u32,   // B: sequences in this step
    first_slot: u32,  // slot of the first token (a prefill step holds one sequence only)
}
