// Sampling, first dispatch: one workgroup per slice of the vocabulary and row.
// Adjusts the logits (sample_adjust), adds noise where rows are drawn without a filter, and leaves
// the slice's Partial; keeps the adjusted scores where a filter follows (sample_keep).
// Header: VOCABULARY, SLICE, SLICES, ROW_PARTIALS, WORKGROUP, FAN, DRAWS, FILTERS, LOGPROBS.
// Bindings: step, logits f32[R, V], slots u32[R], samplers, partials Partial[R, ROW_PARTIALS].

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let slice = group.x;
    let row = group.y;
    if (row >= step.outputs) {
        return;
    }
    let slot = slots[row];
    let wanted = samplers[slot];
    let begin = slice * SLICE + lane;
    let end = min((slice + 1u) * SLICE, VOCABULARY);
    let base = row * VOCABULARY;
    let noisy = DRAWS && wanted.noise > 0.0;
    var own = empty_partial();
    for (var id = begin; id < end; id += WORKGROUP) {
        let raw = finite(logits[base + id]);
        let y = adjusted(raw, id, slot, wanted);
        var score = y;
        if (FILTERS) {
            keep(base + id, y);
        } else if (noisy && y > LOWEST) {
            score += gumbel(wanted.seed_low, wanted.seed_high, wanted.next_position + 1u, id);
        }
        if (score > own.score) {
            own.score = score;
            own.id = id;
        }
        own.raw_top = max(own.raw_top, raw);
        own.top = max(own.top, y);
    }
    if (LOGPROBS) {
        for (var id = begin; id < end; id += WORKGROUP) {
            own.raw_total += exp(finite(logits[base + id]) - own.raw_top);
        }
    }
    if (FILTERS) {
        for (var id = begin; id < end; id += WORKGROUP) {
            own.total += exp(kept(base + id) - own.top);
        }
    }
    let merged = merge_lanes(own, lane);
    if (lane == 0u) {
        partials[row * ROW_PARTIALS + slice] = merged;
    }
}
