// Points of a lattice (formats/grids.py) with signs. Binding: table: array<u32>, four coordinates in a word.

// Bit i of `signs` set: column i is negative.
fn signed8(low: u32, high: u32, signs: u32) -> Eight {
    let bits = vec4u(1u, 2u, 4u, 8u);
    let low_values = vec4f(unpack4xU8(low));
    let high_values = vec4f(unpack4xU8(high));
    return Eight(
        select(low_values, -low_values, (vec4u(signs) & bits) != vec4u(0u)),
        select(high_values, -high_values, (vec4u(signs >> 4u) & bits) != vec4u(0u)),
    );
}

// Seven stored sign bits -> eight, so that the number of minus signs is even.
fn even_signs(seven: u32) -> u32 {
    return (seven & 127u) | ((countOneBits(seven & 127u) & 1u) << 7u);
}
