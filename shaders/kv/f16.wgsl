// KV role: f16 in pairs (needs no shader-f16). keys, values: array<vec2u>, one unit each,
// KEY_ROW (VALUE_ROW) units a row.
fn load_keys(row: u32, unit: u32) -> vec4f {
    let pairs = keys[row * KEY_ROW + unit];
    return vec4f(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
}

fn load_values(row: u32, unit: u32) -> vec4f {
    let pairs = values[row * VALUE_ROW + unit];
    return vec4f(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
}
