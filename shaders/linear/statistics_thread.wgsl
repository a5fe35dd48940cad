// Each thread computes the statistics of its row alone: no barrier.
fn row_statistics(lane: u32, base: u32) -> vec2f {
    if (!HAS_NORM) {
        return vec2f(0.0, 1.0);
    }
    var mean = 0.0;
    if (CENTER) {
        mean = part_total(base, 0u, 1u) / f32(COLUMNS);
    }
    return finish_statistics(part_squares(base, 0u, 1u, mean), mean);
}
