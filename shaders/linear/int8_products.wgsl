// Exact products of 32 codes and 32 rounded activations. Header: CODE_OFFSET (what the codes are too large by).
// Roles: quant/int8/*.
fn dot32(codes: Codes, low: vec4u, high: vec4u) -> f32 {
    let a = dot4I8Packed(codes.low.x, low.x) + dot4I8Packed(codes.low.y, low.y);
    let b = dot4I8Packed(codes.low.z, low.z) + dot4I8Packed(codes.low.w, low.w);
    let c = dot4I8Packed(codes.high.x, high.x) + dot4I8Packed(codes.high.y, high.y);
    let d = dot4I8Packed(codes.high.z, high.z) + dot4I8Packed(codes.high.w, high.w);
    return f32(a + b + c + d);  // below 2^24
}

// What 32 columns add, without the activations' scale. scale = (d, m) of the weight, sum = that of the activations.
fn weighed(product: f32, sum: f32, scale: vec2f) -> f32 {
    return scale.x * (product - CODE_OFFSET * sum) - scale.y * sum;
}
