// How far two results are apart, but for the words that both left at POISON. Each of GROUPS * 64 threads looks at every
// so-manieth word and writes the largest |a - b|, the largest |a| (both 0 unless FLOATS), how many words are not finite in
// one of the two (unless FLOATS: how many differ), and how many were written. No barriers: the host adds up.
// Header: COUNT (words), GROUPS, FLOATS (words are f32; else only bits are compared), POISON.
fn finite(bits: u32) -> bool {
    return (bits & 0x7f800000u) != 0x7f800000u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3u) {
    var difference = 0.0;
    var largest = 0.0;
    var broken = 0.0;
    var changed = 0.0;
    var written = 0.0;
    for (var i = id.x; i < COUNT; i += GROUPS * 64u) {
        let a = expected[i];
        let b = found[i];
        if (a != b) {
            changed += 1.0;
        }
        if (a == POISON && b == POISON) {
            continue;
        }
        written += 1.0;
        if (FLOATS) {
            if (finite(a) && finite(b)) {
                difference = max(difference, abs(bitcast<f32>(a) - bitcast<f32>(b)));
                largest = max(largest, abs(bitcast<f32>(a)));
            } else {
                broken += 1.0;
            }
        }
    }
    out[id.x] = vec4f(difference, largest, select(changed, broken, FLOATS), written);
}
