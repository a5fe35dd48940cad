// Two-bit codes, sixteen in a word: columns 4k .. 4k + 3 are bits 2k of the four bytes. The codes of a unit are
// returned as two words of four bytes.
fn two_bits8(word: u32, unit: u32) -> vec2u {
    let pair = word >> (unit % 2u * 4u);
    return vec2u(pair, pair >> 2u) & vec2u(0x03030303u);
}
