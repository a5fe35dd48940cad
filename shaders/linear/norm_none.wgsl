// No norm in the prologue.
const HAS_NORM: bool = false;
const CENTER: bool = false;

fn normalised(values: Eight, unit: u32, stats: vec2f) -> Eight {
    return values;
}
