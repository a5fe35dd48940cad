// Numbers of eight bits, four in a word: sums of products are exact integers, below 2^24.
const MOST: f32 = 127.0;
alias Numbers = vec4i;
alias Half = vec4u;

fn rounded4(values: vec4f, inverse: f32) -> vec4i {
    return vec4i(round(values * inverse));
}

fn packed(a: vec4i, b: vec4i, c: vec4i, d: vec4i) -> vec4u {
    return vec4u(pack4xI8(a), pack4xI8(b), pack4xI8(c), pack4xI8(d));
}

fn dot32(codes: Codes, low: vec4u, high: vec4u) -> f32 {
    let a = dot4I8Packed(codes.low.x, low.x) + dot4I8Packed(codes.low.y, low.y);
    let b = dot4I8Packed(codes.low.z, low.z) + dot4I8Packed(codes.low.w, low.w);
    let c = dot4I8Packed(codes.high.x, high.x) + dot4I8Packed(codes.high.y, high.y);
    let d = dot4I8Packed(codes.high.z, high.z) + dot4I8Packed(codes.high.w, high.w);
    return f32(a + b + c + d);
}
