// What a score becomes before the softmax, and which keys a token sees.
// Header: SCALE, SOFTCAP (0: none), CAUSAL, WINDOW (0: all), LOWEST.
// Needs: lib/activation (tanh_safe), attention/length*.

fn capped(score: f32) -> f32 {
    if (SOFTCAP > 0.0) {
        return SOFTCAP * tanh_safe(score * SCALE / SOFTCAP);
    }
    return score * SCALE;
}

fn capped4(scores: vec4f) -> vec4f {
    if (SOFTCAP > 0.0) {
        return vec4f(capped(scores.x), capped(scores.y), capped(scores.z), capped(scores.w));
    }
    return scores * SCALE;
}

// First key that a token at `position` sees.
fn first_key(position: u32) -> u32 {
    if (WINDOW > 0u) {
        return select(0u, position + 1u - WINDOW, position + 1u > WINDOW);
    }
    return 0u;
}

// One past the last key that it sees.
fn end_key(position: u32, slot: u32) -> u32 {
    if (CAUSAL) {
        return position + 1u;
    }
    return slot_length(slot);
}
