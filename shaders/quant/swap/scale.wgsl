// Scale and minimum of a group as the format's own file reads them.
fn swap_scale(row: u32, group: u32) -> vec2f {
    return group_scale(row, group);
}
