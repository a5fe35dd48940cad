// TQ1_0 block of 256: quants[52] (five base-3 digits a byte, the last four bytes four), f16 d.
// A byte is the ceiling of its number * 256 / 243: multiplied by 3^n (mod 256), its top holds digit n.
fn raw_digit(row: u32, start: u32, column: u32) -> u32 {
    var byte = column % 32u;
    var n = column / 32u;
    if (column >= 240u) {
        byte = 48u + column % 4u;
        n = (column - 240u) / 4u;
    } else if (column >= 160u) {
        byte = 32u + column % 16u;
        n = (column - 160u) / 16u;
    }
    var digits = raw_u8(row, start + byte);
    for (var i = 0u; i < n; i++) {
        digits = (digits * 3u) & 0xffu;
    }
    return (digits * 3u) >> 8u;
}

fn raw_number(row: u32, start: u32, unit: u32) -> u32 {
    var number = 0u;
    for (var c = 8u; c > 0u; c--) {
        number = number * 3u + raw_digit(row, start, unit * 8u + c - 1u);
    }
    return number;
}

fn packed_quants(row: u32, word: u32) -> u32 {
    let start = word / 13u * 54u;
    let first_bit = word % 13u * 32u;
    var packed = 0u;
    for (var unit = first_bit / 13u; unit <= (first_bit + 31u) / 13u; unit++) {
        let number = raw_number(row, start, unit);
        if (unit * 13u >= first_bit) {
            packed |= number << (unit * 13u - first_bit);
        } else {
            packed |= number >> (first_bit - unit * 13u);
        }
    }
    return packed;
}

fn packed_scales(row: u32, word: u32) -> u32 {
    return raw_half_pair(row, word * 108u + 52u, 54u);
}
