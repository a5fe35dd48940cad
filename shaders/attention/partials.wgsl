// Attention role: one split's share of the result, for ops/attention_combine: VALUE_UNITS vectors,
// not divided by the total, then (highest score, total, 0, 0).
fn put(token: u32, head: u32, split: u32, unit: u32, sum: vec4f, highest: f32, total: f32) {
    let base = ((token * HEADS + head) * SPLITS + split) * (VALUE_UNITS + 1u);
    partials[base + unit] = sum;
    if (unit == 0u) {
        partials[base + VALUE_UNITS] = vec4f(highest, total, 0.0, 0.0);
    }
}
