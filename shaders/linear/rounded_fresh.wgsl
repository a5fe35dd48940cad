// Each thread rounds the activations that it multiplies: for rows too wide for workgroup memory. A block is 32 columns.
// Roles: rounded, stage_none.
fn rounded_block(t: u32, base: u32, block: u32, stats: vec3f) -> Rounded {
    let unit = block * 4u;
    return round32(
        staged_x8(t, base, unit, stats),
        staged_x8(t, base, unit + 1u, stats),
        staged_x8(t, base, unit + 2u, stats),
        staged_x8(t, base, unit + 3u, stats),
    );
}
