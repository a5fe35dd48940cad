// Activations rounded to int8: 32 columns share a scale, their largest magnitude over 127. Products with a weight's codes
// are exact integers; what is added over the columns are those products times both scales, in f32.
struct Rounded {
    low: vec4u,   // as bytes: the first four columns of each of four units
    high: vec4u,  // the last four
    scale: f32,
    sum: f32,     // of the rounded values
}

fn largest8(x: Eight) -> f32 {
    let pairs = max(abs(x.low), abs(x.high));
    return max(max(pairs.x, pairs.y), max(pairs.z, pairs.w));
}

// What activations are multiplied by before they are rounded; 0 where all of them are (nearly) 0.
fn inverse_scale(largest: f32) -> f32 {
    return select(0.0, 127.0 / max(largest, 1e-30), largest > 1e-30);
}

fn rounded4(values: vec4f, inverse: f32) -> vec4i {
    return vec4i(round(values * inverse));
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
    let sums = a_0 + a_1 + a_2 + a_3 + b_0 + b_1 + b_2 + b_3;
    return Rounded(
        vec4u(pack4xI8(a_0), pack4xI8(a_1), pack4xI8(a_2), pack4xI8(a_3)),
        vec4u(pack4xI8(b_0), pack4xI8(b_1), pack4xI8(b_2), pack4xI8(b_3)),
        largest / 127.0,
        f32(sums.x + sums.y + sums.z + sums.w),
    );
}
