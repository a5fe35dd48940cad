// Sampling with min-p, top-k and top-p, second dispatch: one workgroup per row finds how far below
// the best score an id may be, exactly (sample_radix), and draws among those. Ids that equal the
// last one kept are kept too.
// Header: VOCABULARY, SLICE, SLICES, ROW_PARTIALS, WORKGROUP, FAN.
// Bindings: step, slots u32[R], samplers, partials Partial[R, ROW_PARTIALS], scores f32[R, V], results,
// and those of the roles.

var<workgroup> request: Sampler;
var<workgroup> everything: Partial;

fn distance_of(id: u32) -> f32 {
    return current_top - scores[current_row * VOCABULARY + id];
}

fn slice_top(slice: u32) -> f32 {
    return partials[current_row * ROW_PARTIALS + slice].top;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = group.x;
    if (row >= step.outputs) {
        return;
    }
    let slot = slots[row];
    var own = empty_partial();
    for (var slice = lane; slice < SLICES; slice += WORKGROUP) {
        own = merge(own, partials[row * ROW_PARTIALS + slice]);
    }
    let merged = merge_lanes(own, lane);
    if (lane == 0u) {
        request = samplers[slot];
        everything = merged;
        done = 0u;
    }
    let wanted = workgroupUniformLoad(&request);
    let all = workgroupUniformLoad(&everything);
    current_row = row;
    current_top = all.top;

    var limit = wanted.reach;
    if (wanted.noise == 0.0) {
        domain = 0u; // greedy: the scan has found it
    } else {
        if (wanted.top_k > 0u && wanted.top_k < VOCABULARY) {
            limit = min(limit, slice_bound(wanted.top_k, lane));
            if (limit < UNLIMITED) {
                gather(limit, lane);
            }
            limit = reach_sum(limit, 0.0, wanted.top_k, 0.0, lane);
        } else if (limit < UNLIMITED) {
            gather(limit, lane);
        }
        if (wanted.top_p < 1.0) {
            var mass = 0u;
            if (limit >= UNLIMITED) {
                // All mass together is known, and ids less likely than (1 - top_p) / V are not even
                // together as much as what top_p leaves out.
                limit = log(f32(VOCABULARY) / ((1.0 - wanted.top_p) * all.total)) + 0.01;
                mass = max(1u, u32(WHOLE * wanted.top_p));
            }
            limit = reach_sum(limit, WHOLE / all.total, mass, wanted.top_p, lane);
        }
    }

    var drawn = empty_partial();
    for (var index = lane; index < domain; index += WORKGROUP) {
        let distance = candidate_distance(index);
        if (distance <= limit) {
            let id = candidate_id(index);
            let score = gumbel(wanted.seed_low, wanted.seed_high, wanted.next_position + 1u, id) - distance;
            if (score > drawn.score || (score == drawn.score && id < drawn.id)) {
                drawn.score = score;
                drawn.id = id;
            }
        }
    }
    workgroupBarrier(); // lane_partials is used a second time
    let best = merge_lanes(drawn, lane);
    if (lane == 0u) {
        choose(row, slot, select(best.id, all.id, wanted.noise == 0.0), all);
    }
}
