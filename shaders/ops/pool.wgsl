// Pool: one row per sequence of the step: mean, first or last token, L2-normalised where NORMALISE.
// A sequence is a run of tokens with equal slots; LANES threads share one.
// Header: Structure and Tuning of kernels/pool.py. Needs: lib/step, lib/rows (rows are sequences),
// a lanes role.

// [first, end) of the tokens of sequence `wanted` of the step; empty where there is none.
fn run_of(wanted: u32) -> vec2u {
    let tokens = min(step.tokens, TOKENS_CAPACITY);
    var sequence = 0u;
    var first = 0u;
    for (var token = 1u; token < tokens; token++) {
        if (slots[token] != slots[token - 1u]) {
            if (sequence == wanted) {
                return vec2u(first, token);
            }
            sequence += 1u;
            first = token;
        }
    }
    return select(vec2u(0u), vec2u(first, tokens), sequence == wanted);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = (workgroup.y * workgroups.x + workgroup.x) * (WORKGROUP / LANES);
    let sequence = tile + thread / LANES;
    let lane = thread % LANES;
    var run = vec2u(0u);
    if (sequence < row_count()) {
        run = run_of(sequence);
    }
    let found = run.y > run.x;
    let count = f32(run.y - run.x);
    if (KIND == CLS) {
        run.y = run.x + 1u;
    }
    if (KIND == LAST) {
        run.x = run.y - 1u;
    }

    var squares = 0.0;
    if (found) {
        for (var column = lane; column < WIDTH; column += LANES) {
            var sum = 0.0;
            for (var token = run.x; token < run.y; token++) {
                sum += x[token * X_STRIDE + X_START + column];
            }
            if (KIND == MEAN) {
                sum /= count;
            }
            squares += sum * sum;
            out[sequence * OUT_STRIDE + OUT_START + column] = sum;
        }
    }
    if (NORMALISE) {
        let total = lanes_sum(squares, thread);
        if (found && total > 0.0) {
            for (var column = lane; column < WIDTH; column += LANES) {
                out[sequence * OUT_STRIDE + OUT_START + column] /= sqrt(total);
            }
        }
    }
}
