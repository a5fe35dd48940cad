// Fields of super-blocks of 256 -> words of quant/*.wgsl. Weights 32b .. 32b + 31 are one field of 32 bytes.

// Two bits of 16 bytes -> one word of two_bits8().
fn raw_two_bits(row: u32, offset: u32, shift: u32) -> u32 {
    var word = 0u;
    for (var k = 0u; k < 4u; k++) {
        word |= ((raw_u32(row, offset + 4u * k) >> shift) & 0x03030303u) << (2u * k);
    }
    return word;
}

// One bit of 32 bytes -> one word, column c at bit c. The multiplication gathers the four bits of a word.
fn raw_bits(row: u32, offset: u32, shift: u32) -> u32 {
    var word = 0u;
    for (var k = 0u; k < 8u; k++) {
        let bits = (raw_u32(row, offset + 4u * k) >> shift) & 0x01010101u;
        word |= ((bits * 0x01020408u) >> 24u) << (4u * k);
    }
    return word;
}

// Q4_K and Q5_K: word k of (scale, minimum) byte pairs from the twelve bytes at `offset`.
fn raw_k_scales(row: u32, offset: u32, k: u32) -> u32 {
    let first = raw_u32(row, offset);
    let second = raw_u32(row, offset + 4u);
    let third = raw_u32(row, offset + 8u);
    var scale = first & 0x3f3f3f3fu;
    var minimum = second & 0x3f3f3f3fu;
    if (k >= 2u) {
        scale = (third & 0x0f0f0f0fu) | (((first >> 6u) & 0x03030303u) << 4u);
        minimum = ((third >> 4u) & 0x0f0f0f0fu) | (((second >> 6u) & 0x03030303u) << 4u);
    }
    scale >>= k % 2u * 16u;
    minimum >>= k % 2u * 16u;
    let low = (scale & 0xffu) | ((minimum & 0xffu) << 8u);
    let high = ((scale >> 8u) & 0xffu) | (minimum & 0xff00u);
    return low | (high << 16u);
}
