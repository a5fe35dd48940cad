// Numbers in f16, scaled so that neither a product nor a sum of eight can overflow: codes have at most eight bits, which f16
// holds exactly. Four sums of eight products in f16, added in f32.
const MOST: f32 = 1.0;
alias Numbers = vec4h;

struct Half {
    a: vec4h,
    b: vec4h,
    c: vec4h,
    d: vec4h,
}

fn rounded4(values: vec4f, inverse: f32) -> vec4h {
    return vec4h(quantizeToF16(values * inverse));
}

fn packed(a: vec4h, b: vec4h, c: vec4h, d: vec4h) -> Half {
    return Half(a, b, c, d);
}

fn dot32(codes: Codes, low: Half, high: Half) -> f32 {
    var sums = codes.low.a * low.a + codes.high.a * high.a;
    sums += codes.low.b * low.b + codes.high.b * high.b;
    sums += codes.low.c * low.c + codes.high.c * high.c;
    sums += codes.low.d * low.d + codes.high.d * high.d;
    return total(sums);
}
