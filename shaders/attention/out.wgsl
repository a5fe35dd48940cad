// Attention role: all keys were seen (SPLITS == 1), the result is complete.
const_assert SPLITS == 1u;

fn put(token: u32, head: u32, split: u32, unit: u32, sum: vec4f, highest: f32, total: f32) {
    let base = token * OUT_STRIDE + OUT_START + head * VALUE_SIZE;
    let result = sum / max(total, 1e-37);
    for (var i = 0u; i < 4u; i++) {
        if (unit * 4u + i < VALUE_SIZE) {
            out[base + unit * 4u + i] = result[i];
        }
    }
}
