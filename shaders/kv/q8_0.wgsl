// KV role: q8_0, blocks of 32 consecutive elements of a row. keys, values: array<u32>, nine words
// a block: the f32 scale, then 32 signed bytes. KEY_ROW (VALUE_ROW) words a row.
fn load_keys(row: u32, unit: u32) -> vec4f {
    let word = row * KEY_ROW + unit / 8u * 9u;
    return bitcast<f32>(keys[word]) * vec4f(unpack4xI8(keys[word + 1u + unit % 8u]));
}

fn load_values(row: u32, unit: u32) -> vec4f {
    let word = row * VALUE_ROW + unit / 8u * 9u;
    return bitcast<f32>(values[word]) * vec4f(unpack4xI8(values[word + 1u + unit % 8u]));
}
