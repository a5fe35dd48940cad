// Q4_K by 32 columns: see quant/q4_k.
const GROUP: u32 = 32u;
const HAS_MINIMUM: bool = true;

fn unit_codes(word: u32) -> Eight {
    return nibbles8(word);
}

fn group_scale(row: u32, group: u32) -> vec2f {
    return k_scale(row, group);
}
