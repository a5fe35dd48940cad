// The TOP most likely ids of each row with the model's own log-probabilities, falling; equal ones by
// rising id. One workgroup per row, after sample_scan.
// Header: VOCABULARY, SLICE, SLICES, ROW_PARTIALS, WORKGROUP, FAN, TOP.
// Bindings: step, logits f32[R, V], partials Partial[R, ROW_PARTIALS], results u32[R, RESULT_WORDS].

const_assert TOP <= 20u && TOP <= VOCABULARY;

var<workgroup> everything: Partial;
var<workgroup> taken: atomic<u32>;
var<workgroup> lowest_tie: atomic<u32>;
var<workgroup> tie: u32;
var<workgroup> top_ids: array<u32, TOP>;
var<workgroup> top_distances: array<f32, TOP>;

fn distance_of(id: u32) -> f32 {
    return current_top - finite(logits[current_row * VOCABULARY + id]);
}

fn slice_top(slice: u32) -> f32 {
    return partials[current_row * ROW_PARTIALS + slice].raw_top;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (row >= step.outputs) {
        return;
    }
    var own = empty_partial();
    for (var slice = lane; slice < SLICES; slice += WORKGROUP) {
        own = merge(own, partials[row * ROW_PARTIALS + slice]);
    }
    let merged = merge_lanes(own, lane);
    if (lane == 0u) {
        everything = merged;
        done = 0u;
        atomicStore(&taken, 0u);
        tie = 0u;
    }
    let all = workgroupUniformLoad(&everything);
    current_row = row;
    current_top = all.raw_top;
    let bound = slice_bound(TOP, lane);
    if (bound < UNLIMITED) {
        gather(bound, lane);
    }
    let last = reach_sum(bound, 0.0, TOP, 0.0, lane);

    for (var index = lane; index < domain; index += WORKGROUP) {
        let distance = candidate_distance(index);
        if (distance < last) { // fewer than TOP of them
            let place = atomicAdd(&taken, 1u);
            top_ids[place] = candidate_id(index);
            top_distances[place] = distance;
        }
    }
    workgroupBarrier();
    if (lane == 0u) {
        tie = atomicLoad(&taken);
    }
    let above = workgroupUniformLoad(&tie);
    // Those equal to the last one, by rising id: usually one round.
    var next = 0u;
    for (var place = above; place < TOP; place++) {
        if (lane == 0u) {
            atomicStore(&lowest_tie, NO_ID);
        }
        workgroupBarrier();
        for (var index = lane; index < domain; index += WORKGROUP) {
            let id = candidate_id(index);
            if (id >= next && candidate_distance(index) == last) {
                atomicMin(&lowest_tie, id);
            }
        }
        workgroupBarrier();
        if (lane == 0u) {
            tie = atomicLoad(&lowest_tie);
            top_ids[place] = tie;
            top_distances[place] = last;
        }
        next = workgroupUniformLoad(&tie) + 1u;
    }
    workgroupBarrier();
    for (var i = lane; i < TOP; i += WORKGROUP) {
        var rank = 0u;
        for (var other = 0u; other < TOP; other++) {
            let nearer = top_distances[other] < top_distances[i];
            let earlier = top_distances[other] == top_distances[i] && top_ids[other] < top_ids[i];
            rank += select(0u, 1u, nearer || earlier);
        }
        let at = row * RESULT_WORDS + 4u + 2u * rank;
        results[at] = top_ids[i];
        results[at + 1u] = bitcast<u32>(-top_distances[i] - log(all.raw_total));
    }
}
