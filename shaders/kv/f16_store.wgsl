// KV role for writing: f16, one unit (four elements) at a time. Values beyond f16's range, which
// pack2x16float leaves undefined, are clamped.
const STORE_UNITS: u32 = 1u;

fn to_f16(value: vec4f) -> vec2u {
    let v = clamp(value, vec4f(-65504.0), vec4f(65504.0));
    return vec2u(pack2x16float(v.xy), pack2x16float(v.zw));
}

fn store_keys(row: u32, piece: u32, units: array<vec4f, STORE_UNITS>) {
    keys[row * KEY_ROW + piece] = to_f16(units[0]);
}

fn store_values(row: u32, piece: u32, units: array<vec4f, STORE_UNITS>) {
    values[row * VALUE_ROW + piece] = to_f16(units[0]);
}
