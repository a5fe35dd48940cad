// KV role for writing: f32, one unit (four elements) at a time.
const STORE_UNITS: u32 = 1u;

fn store_keys(row: u32, piece: u32, units: array<vec4f, STORE_UNITS>) {
    keys[row * KEY_ROW + piece] = units[0];
}

fn store_values(row: u32, piece: u32, units: array<vec4f, STORE_UNITS>) {
    values[row * VALUE_ROW + piece] = units[0];
}
