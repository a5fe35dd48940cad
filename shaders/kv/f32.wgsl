// KV role: f32. keys, values: array<vec4f>, KEY_ROW (VALUE_ROW) vectors a row.
// A unit is four consecutive elements of a row.
fn load_keys(row: u32, unit: u32) -> vec4f {
    return keys[row * KEY_ROW + unit];
}

fn load_values(row: u32, unit: u32) -> vec4f {
    return values[row * VALUE_ROW + unit];
}
