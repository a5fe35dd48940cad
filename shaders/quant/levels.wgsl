// Sixteen int8 levels chosen by nibbles. The role gives LEVELS: vec4u, four levels in a word.
fn levels4(nibbles: u32) -> vec4f {
    let codes = unpack4xU8(nibbles);
    let upper = (codes & vec4u(4u)) != vec4u(0u);
    let words = select(
        select(vec4u(LEVELS.x), vec4u(LEVELS.y), upper),
        select(vec4u(LEVELS.z), vec4u(LEVELS.w), upper),
        (codes & vec4u(8u)) != vec4u(0u),
    );
    let shifted = words << (vec4u(24u) - (codes & vec4u(3u)) * 8u);
    return vec4f(bitcast<vec4i>(shifted) >> vec4u(24u));
}

fn levels8(word: u32) -> Eight {
    return Eight(levels4(word & 0x0f0f0f0fu), levels4((word >> 4u) & 0x0f0f0f0fu));
}
