// x is read as it is.
const HAS_SUM: bool = false;

fn delta_squares(base: u32, first: u32, step_by: u32) -> f32 {
    return 0.0;
}

fn delta_root(squares: f32) -> f32 {
    return 1.0;
}

fn summed(base: u32, unit: u32, root: f32) -> Eight {
    return x8(base, unit);
}
