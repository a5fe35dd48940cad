// Eight consecutive columns: codes of a weight row, or activations.
struct Eight {
    low: vec4f,   // columns 8 * unit .. + 3
    high: vec4f,  // columns 8 * unit + 4 .. + 7
}

fn dot8(a: Eight, b: Eight) -> f32 {
    return dot(a.low, b.low) + dot(a.high, b.high);
}

fn sum8(a: Eight) -> f32 {
    return dot(a.low + a.high, vec4f(1.0));
}

// Codes of one nibble word: columns 0..3 in the low nibbles of the bytes, 4..7 in the high ones.
fn nibbles8(word: u32) -> Eight {
    return Eight(vec4f(unpack4xU8(word & 0x0f0f0f0fu)), vec4f(unpack4xU8((word >> 4u) & 0x0f0f0f0fu)));
}

// Four bits -> the lowest bits of four bytes: the products of the shifts 0, 7, 14, 21 do not overlap.
fn spread4(bits: u32) -> u32 {
    return ((bits & 15u) * 0x00204081u) & 0x01010101u;
}
