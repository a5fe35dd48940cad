// Every four lanes of a subgroup hold 32 columns of a token's activations, two vectors each; all get them by broadcast.
// Subgroups have a multiple of four lanes. Role: share_x or share_staged.
struct Share {
    low: vec4f,   // columns 4 * lane .. of 16
    high: vec4f,  // those of the second 16
}

fn share32(t: u32, base: u32, block: u32, lane: u32) -> Share {
    let i = block * 8u + lane % 4u;
    return Share(shared_vector(t, base, i), shared_vector(t, base, i + 4u));
}

// Broadcasts want constant lanes; `u` is one after inlining, so only one case is left.
fn share8(s: Share, u: u32) -> Eight {
    switch (u) {
        case 0u: {
            return Eight(subgroupBroadcast(s.low, 0u), subgroupBroadcast(s.low, 1u));
        }
        case 1u: {
            return Eight(subgroupBroadcast(s.low, 2u), subgroupBroadcast(s.low, 3u));
        }
        case 2u: {
            return Eight(subgroupBroadcast(s.high, 0u), subgroupBroadcast(s.high, 1u));
        }
        default: {
            return Eight(subgroupBroadcast(s.high, 2u), subgroupBroadcast(s.high, 3u));
        }
    }
}
