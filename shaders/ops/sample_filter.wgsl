// Sampling with min-p, top-k and top-p, second dispatch: one workgroup per row finds how far below
// the best score an id may be, exactly (sample_radix), and draws among those. Ids that equal the
// last one kept are kept too.
// Header: VOCABULARY, SLICES, WORKGROUP, FAN.
// Bindings: step, slots u32[R], samplers, partials Partial[R, SLICES], scores f32[R, V], results,
// and those of the roles.

var<workgroup> request: Sampler;
var<workgroup> everything: Partial;
var<workgroup> slice_bound: f32;

var<private> row_base: u32;
var<private> row_top: f32;

fn distance_at(index: u32) -> f32 {
    return row_top - scores[row_base + index];
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
        own = merge(own, partials[row * SLICES + slice]);
    }
    let merged = merge_lanes(own, lane);
    if (lane == 0u) {
        request = samplers[slot];
        everything = merged;
        slice_bound = UNLIMITED;
    }
    let wanted = workgroupUniformLoad(&request);
    let all = workgroupUniformLoad(&everything);
    row_base = row * VOCABULARY;
    row_top = all.top;

    var limit = wanted.reach;
    if (wanted.noise == 0.0) {
        limit = 0.0;
    } else {
        if (wanted.top_k > 0u && wanted.top_k < VOCABULARY) {
            // The k-th best slice maximum bounds the k-th best id: most ids need not be counted.
            for (var slice = lane; slice < SLICES; slice += WORKGROUP) {
                let own_top = partials[row * SLICES + slice].top;
                var better = 0u;
                for (var other = 0u; other < SLICES; other++) {
                    let other_top = partials[row * SLICES + other].top;
                    if (other_top > own_top || (other_top == own_top && other < slice)) {
                        better++;
                    }
                }
                if (better + 1u == wanted.top_k) {
                    slice_bound = row_top - own_top;
                }
            }
            limit = min(limit, workgroupUniformLoad(&slice_bound));
            limit = reach_sum(limit, 0.0, wanted.top_k, 0.0, lane);
        }
        if (wanted.top_p < 1.0) {
            let mass_scale = WHOLE / all.total;
            if (limit >= UNLIMITED) {
                // All mass together is known. Ids less likely than (1 - top_p) / V are not even
                // together as much as what top_p leaves out.
                let most = log(f32(VOCABULARY) / ((1.0 - wanted.top_p) * all.total)) + 0.01;
                let mass = max(1u, u32(WHOLE * wanted.top_p));
                limit = reach_sum(most, mass_scale, mass, 0.0, lane);
            } else {
                limit = reach_sum(limit, mass_scale, 0u, wanted.top_p, lane);
            }
        }
    }

    var drawn = empty_partial();
    for (var id = lane; id < VOCABULARY; id += WORKGROUP) {
        let distance = distance_at(id);
        if (distance <= limit) {
            var score = -distance;
            if (wanted.noise > 0.0) {
                score += gumbel(wanted.seed_low, wanted.seed_high, wanted.next_position + 1u, id);
            }
            if (score > drawn.score) {
                drawn.score = score;
                drawn.id = id;
            }
        }
    }
    workgroupBarrier(); // lane_partials is used a second time
    let best = merge_lanes(drawn, lane);
    if (lane == 0u) {
        choose(row, slot, best.id, all);
    }
}
