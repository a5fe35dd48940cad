// Rotation of pairs. The table holds (cos, sin) for positions 0..255 (the low part of a position),
// then for the multiples of 256 (the high part), PAIRS entries a row, computed by the host in
// double precision; the two angles are added here.
// Header: ROTATED (leading elements of a head that are rotated), INTERLEAVED, MAGNITUDE,
// rope_table: array<vec2f>.
const PAIRS: u32 = ROTATED / 2u;

// (cos, sin) of pair `pair` at `position`, times MAGNITUDE.
fn rope_angle(position: u32, pair: u32) -> vec2f {
    let low = rope_table[(position % 256u) * PAIRS + pair];
    let high = rope_table[(256u + position / 256u) * PAIRS + pair];
    return MAGNITUDE * vec2f(low.x * high.x - low.y * high.y, low.y * high.x + low.x * high.y);
}

// The element that `element` (< ROTATED) is rotated with.
fn rope_partner(element: u32) -> u32 {
    if (INTERLEAVED) {
        return element ^ 1u;
    }
    return select(element - PAIRS, element + PAIRS, element < PAIRS);
}

// The rotated value of `element` (< ROTATED), given its own and its partner's values.
fn rope_rotate(position: u32, element: u32, own: f32, partner: f32) -> f32 {
    var pair = element % PAIRS;
    var first = element < PAIRS;
    if (INTERLEAVED) {
        pair = element / 2u;
        first = element % 2u == 0u;
    }
    let angle = rope_angle(position, pair);
    return own * angle.x + select(partner, -partner, first) * angle.y;
}
