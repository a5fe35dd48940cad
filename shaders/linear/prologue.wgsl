// What is done with row t of a tile (it starts at `base`) before it is multiplied: sum, norm, staging. Called by all
// threads of the workgroup. Returns (mean, 1 / deviation, root of the sum's delta). Roles: sum*, statistics_*, stage_*.
fn prologue(thread: u32, t: u32, base: u32, keeps: bool) -> vec3f {
    let stats = row_statistics(thread, t, base);
    if (HAS_SUM && keeps) {
        keep_row(thread, t, base, stats.z);
    }
    stage_x(thread, t, base, stats);
    return stats;
}
