// KV role for writing: q8_0, a block of eight units (32 elements) at a time. The scale is the
// largest magnitude over 127, codes are rounded to nearest.
const STORE_UNITS: u32 = 8u;

fn block_scale(units: array<vec4f, STORE_UNITS>) -> f32 {
    var block = units;
    var highest = vec4f(0.0);
    for (var i = 0u; i < STORE_UNITS; i++) {
        highest = max(highest, abs(block[i]));
    }
    return max(max(highest.x, highest.y), max(highest.z, highest.w)) / 127.0;
}

fn codes(unit: vec4f, scale: f32) -> u32 {
    let inverse = select(0.0, 1.0 / scale, scale > 0.0);
    return pack4xI8(vec4i(round(unit * inverse)));
}

fn store_keys(row: u32, piece: u32, units: array<vec4f, STORE_UNITS>) {
    var block = units;
    let scale = block_scale(units);
    let word = row * KEY_ROW + piece * 9u;
    keys[word] = bitcast<u32>(scale);
    for (var i = 0u; i < STORE_UNITS; i++) {
        keys[word + 1u + i] = codes(block[i], scale);
    }
}

fn store_values(row: u32, piece: u32, units: array<vec4f, STORE_UNITS>) {
    var block = units;
    let scale = block_scale(units);
    let word = row * VALUE_ROW + piece * 9u;
    values[word] = bitcast<u32>(scale);
    for (var i = 0u; i < STORE_UNITS; i++) {
        values[word + 1u + i] = codes(block[i], scale);
    }
}
