// Shared activations come from workgroup memory, where the prologue left them. Role: stage_workgroup.
fn shared_vector(t: u32, base: u32, i: u32) -> vec4f {
    return staged[t * UNITS * 2u + i];
}
