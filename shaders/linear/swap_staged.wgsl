// A lane's activations of eight columns come from workgroup memory, where the prologue left them. Role: stage_workgroup.
fn lane_x(t: u32, base: u32, unit: u32, lane: u32) -> vec2f {
    let i = (t * UNITS + unit) * 2u;
    return vec2f(staged[i][lane], staged[i + 1u][lane]);
}
