// Writes the chosen id wherever it is needed.
// Bindings: samplers Sampler[slots] (written), results u32[R, RESULT_WORDS].
fn choose(row: u32, slot: u32, best: u32, all: Partial) {
    let id = select(best, 0u, best >= VOCABULARY); // every logit was NaN: still a valid id
    let position = samplers[slot].next_position + 1u;
    samplers[slot].next_id = id;
    samplers[slot].next_position = position;
    feed(row, id, position);
    let at = row * RESULT_WORDS;
    results[at] = id;
    results[at + 1u] = bitcast<u32>(own_logprob(row, id, all));
    results[at + 2u] = position;
    results[at + 3u] = slot;
}
