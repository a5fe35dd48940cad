// Activations rounded to numbers of fewer bits: 32 columns share a scale, so that their largest magnitude is MOST.
// What is added over the columns in f32 are sums of 32 products, times both scales.
// Header: CODE_OFFSET (what packed codes are too large by). Roles: int8 or f16.
struct Rounded {
    low: Half,   // the first four columns of each of four units
    high: Half,  // the last four
    scale: f32,
    sum: f32,    // of the rounded values
}

// The codes of 32 columns of a weight row, in the same order.
struct Codes {
    low: Half,
    high: Half,
}

fn largest8(x: Eight) -> f32 {
    let pairs = max(abs(x.low), abs(x.high));
    return max(max(pairs.x, pairs.y), max(pairs.z, pairs.w));
}

// What activations are multiplied by before they are rounded; 0 where all of them are (nearly) 0.
fn inverse_scale(largest: f32) -> f32 {
    return select(0.0, MOST / max(largest, 1e-30), largest > 1e-30);
}

fn total(numbers: Numbers) -> f32 {
    let parts = vec4f(numbers);
    return parts.x + parts.y + parts.z + parts.w;
}

fn round32(x_0: Eight, x_1: Eight, x_2: Eight, x_3: Eight) -> Rounded {
    let largest = max(max(largest8(x_0), largest8(x_1)), max(largest8(x_2), largest8(x_3)));
    let inverse = inverse_scale(largest);
    let a_0 = rounded4(x_0.low, inverse);
    let a_1 = rounded4(x_1.low, inverse);
    let a_2 = rounded4(x_2.low, inverse);
    let a_3 = rounded4(x_3.low, inverse);
    let b_0 = rounded4(x_0.high, inverse);
    let b_1 = rounded4(x_1.high, inverse);
    let b_2 = rounded4(x_2.high, inverse);
    let b_3 = rounded4(x_3.high, inverse);
    let sum = total(a_0) + total(a_1) + total(a_2) + total(a_3) + total(b_0) + total(b_1) + total(b_2) + total(b_3);
    return Rounded(packed(a_0, a_1, a_2, a_3), packed(b_0, b_1, b_2, b_3), largest / MOST, sum);
}

// What 32 columns add, without the activations' scale. scale = (d, m) of the weight, sum = that of the activations.
fn weighed(product: f32, sum: f32, scale: vec2f) -> f32 {
    return scale.x * (product - CODE_OFFSET * sum) - scale.y * sum;
}
