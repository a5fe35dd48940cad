// Penalties, bias and mask of a slot. Bindings: counts u32[slots, V] (bit 31: in the prompt, the
// others: occurrences in the answer), bias f32[slots, V], mask u32[slots, ceil(V / 32)].

const IN_PROMPT = 0x80000000u;
const MASK_WORDS = (VOCABULARY + 31u) / 32u;

// Counts the id that was sampled last: exactly one invocation of a step sees it here.
fn occurrences(entry: u32, id: u32, last: u32) -> u32 {
    var count = counts[entry];
    if (id == last) {
        count += 1u;
        counts[entry] = count;
    }
    return count;
}

fn adjusted(logit: f32, id: u32, slot: u32, wanted: Sampler) -> f32 {
    var y = logit;
    let entry = slot * VOCABULARY + id;
    if ((wanted.uses & USES_PENALTIES) != 0u) {
        let count = occurrences(entry, id, wanted.next_id);
        let answered = count & ~IN_PROMPT;
        if (count != 0u) {
            y = select(y * wanted.repetition, y / wanted.repetition, y > 0.0);
        }
        if (answered != 0u) {
            y -= wanted.frequency * f32(answered) + wanted.presence;
        }
    }
    if ((wanted.uses & USES_BIAS) != 0u) {
        y += bias[entry];
    }
    y *= wanted.inverse_temperature;
    if ((wanted.uses & USES_MASK) != 0u) {
        let word = mask[slot * MASK_WORDS + id / 32u];
        y = select(LOWEST, y, ((word >> (id % 32u)) & 1u) != 0u);
    }
    return y;
}
