// Every eight lanes of a subgroup hold 32 columns of a token's activations, a vector each; all get them by broadcast.
// Subgroups have a multiple of eight lanes. Role: share_x or share_staged.
struct Share {
    values: vec4f,  // columns 4 * lane ..
}

fn share32(t: u32, base: u32, block: u32, lane: u32) -> Share {
    return Share(shared_vector(t, base, block * 8u + lane % 8u));
}

// Broadcasts want constant lanes; `u` is one after inlining, so only one case is left.
fn share8(s: Share, u: u32) -> Eight {
    switch (u) {
        case 0u: {
            return Eight(subgroupBroadcast(s.values, 0u), subgroupBroadcast(s.values, 1u));
        }
        case 1u: {
            return Eight(subgroupBroadcast(s.values, 2u), subgroupBroadcast(s.values, 3u));
        }
        case 2u: {
            return Eight(subgroupBroadcast(s.values, 4u), subgroupBroadcast(s.values, 5u));
        }
        default: {
            return Eight(subgroupBroadcast(s.values, 6u), subgroupBroadcast(s.values, 7u));
        }
    }
}
