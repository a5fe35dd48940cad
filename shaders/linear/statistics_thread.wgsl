// Each thread computes the statistics of its row alone: no barrier.
fn row_statistics(thread: u32, t: u32, base: u32) -> vec3f {
    var root = 1.0;
    if (HAS_SUM) {
        root = delta_root(delta_squares(base, 0u, 1u));
    }
    if (!HAS_NORM) {
        return vec3f(0.0, 1.0, root);
    }
    var mean = 0.0;
    if (CENTER) {
        mean = part_total(t, base, root, 0u, 1u) / f32(COLUMNS);
    }
    return finish_statistics(part_squares(t, base, root, 0u, 1u, mean), mean, root);
}
