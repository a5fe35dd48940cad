// Route: the USED experts with the highest logits, and their weights. LANES threads share a token.
// Ties go to the lower index. Softmax and sigmoid keep the order, so logits are compared.
// Header: Structure and Tuning of kernels/route.py. Needs: lib/step, lib/rows, lib/activation, a lanes role.

// Smallest sum of weights that is divided by: the smallest normal f16, as in llama.cpp.
const LEAST_SUM: f32 = 6.103515625e-5;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = (workgroup.y * workgroups.x + workgroup.x) * (WORKGROUP / LANES);
    let token = tile + thread / LANES;
    let lane = thread % LANES;
    let inside = token < row_count();
    let base = token * LOGITS_STRIDE + LOGITS_START;

    var chosen: array<u32, USED>;
    var scores: array<f32, USED>;
    var last = HIGHEST;
    var last_expert = 0u;
    for (var j = 0u; j < USED; j++) {
        var best = LOWEST;
        var best_expert = EXPERTS - 1u;
        if (inside) {
            for (var i = lane; i < EXPERTS; i += LANES) {
                let score = logits[base + i];
                let after = score < last || (score == last && i > last_expert);
                if (after && score > best) {
                    best = score;
                    best_expert = i;
                }
            }
        }
        let winner = lanes_max(best, thread);
        // the lowest index among the lanes that hold the winner
        let candidate = select(-f32(EXPERTS - 1u), -f32(best_expert), best == winner);
        last_expert = u32(-lanes_max(candidate, thread));
        last = winner;
        chosen[j] = last_expert;
        scores[j] = winner;
    }

    let highest = scores[0];
    var total = 1.0;
    if (SOFTMAX_ALL) {
        var sum = 0.0;
        if (inside) {
            for (var i = lane; i < EXPERTS; i += LANES) {
                sum += exp(logits[base + i] - highest);
            }
        }
        total = lanes_sum(sum, thread);
    }
    if (!inside || lane != 0u) {
        return;
    }
    var weights: array<f32, USED>;
    var chosen_sum = 0.0;
    for (var j = 0u; j < USED; j++) {
        if (SIGMOID) {
            weights[j] = sigmoid(scores[j]);
        } else {
            weights[j] = exp(scores[j] - highest) / total;
        }
        chosen_sum += weights[j];
    }
    var factor = FACTOR;
    if (SOFTMAX_CHOSEN) {
        factor /= chosen_sum;
        chosen_sum = 1.0;
    }
    if (NORMALISE) {
        factor /= max(chosen_sum, LEAST_SUM);
    }
    for (var j = 0u; j < USED; j++) {
        out_experts[token * OUT_EXPERTS_STRIDE + OUT_EXPERTS_START + j] = chosen[j];
        out_weights[token * OUT_WEIGHTS_STRIDE + OUT_WEIGHTS_START + j] = weights[j] * factor;
    }
}
