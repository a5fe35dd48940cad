// Reads the raw bytes of whole rows as they lie in the file. Header: ROW_BYTES; binding: raw, job.
fn raw_u8(row: u32, offset: u32) -> u32 {
    let at = job.raw_byte_offset + row * ROW_BYTES + offset;
    return (raw[at / 4u] >> ((at % 4u) * 8u)) & 0xffu;
}

fn raw_u16(row: u32, offset: u32) -> u32 {
    return raw_u8(row, offset) | (raw_u8(row, offset + 1u) << 8u);
}

fn raw_u32(row: u32, offset: u32) -> u32 {
    return raw_u16(row, offset) | (raw_u16(row, offset + 2u) << 16u);
}

// Two f16 that lie `step` bytes apart, as one word of half_scales.wgsl; the second is 0 beyond the row.
fn raw_half_pair(row: u32, first: u32, step: u32) -> u32 {
    let low = raw_u16(row, first);
    if (first + step < ROW_BYTES) {
        return low | (raw_u16(row, first + step) << 16u);
    }
    return low;
}

// Nibbles of eight bytes -> one word of nibbles8(). The wanted nibble of each byte starts at bit `shift`.
fn raw_nibbles(row: u32, offset: u32, shift: u32) -> u32 {
    let low = (raw_u32(row, offset) >> shift) & 0x0f0f0f0fu;
    let high = (raw_u32(row, offset + 4u) >> shift) & 0x0f0f0f0fu;
    return low | (high << 4u);
}
