// out = epilogue(weight . rounded(prologue(x))): one thread per output and token, nothing packed: the plain twin of all others
// that round activations. A row is rounded anew by every thread.
// Header: WORKGROUP, OUTPUTS, UNITS, TOKENS. Roles: quant/* (its codes are integers of at most eight bits, GROUP is 32),
// rounded, int8 or f16, layout_*, x_*, sum*, norm*, prologue, statistics_thread, stage_none, epilogue.
const_assert GROUP == 32u;

fn products8(codes: Eight, low: Numbers, high: Numbers) -> Numbers {
    return Numbers(codes.low) * low + Numbers(codes.high) * high;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group_id: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let index = group_id.y * groups.x + group_id.x;
    let per_token = (OUTPUTS + WORKGROUP - 1u) / WORKGROUP;
    let t = index / per_token;
    if (t >= token_count()) {
        return;
    }
    let base = x_base(t);
    let stats = prologue(local.x, 0u, base, index % per_token == 0u);
    let n = index % per_token * WORKGROUP + local.x;
    if (n >= OUTPUTS) {
        return;
    }
    var products = vec2f(0.0);
    for (var block = 0u; block < UNITS / 4u; block++) {
        var largest = 0.0;
        for (var i = 0u; i < 4u; i++) {
            largest = max(largest, largest8(staged_x8(0u, base, block * 4u + i, stats)));
        }
        let inverse = inverse_scale(largest);
        var dots = Numbers();
        var up_dots = Numbers();
        var sum = 0.0;
        for (var i = 0u; i < 4u; i++) {
            let unit = block * 4u + i;
            let x = staged_x8(0u, base, unit, stats);
            let low = rounded4(x.low, inverse);
            let high = rounded4(x.high, inverse);
            sum += total(low) + total(high);
            dots += products8(quants8(n, unit), low, high);
            if (GATED) {
                up_dots += products8(quants8(n + UP_ROWS, unit), low, high);
            }
        }
        let scale = group_scale(n, block);
        products.x += largest / MOST * (scale.x * total(dots) - scale.y * sum);
        if (GATED) {
            let up = group_scale(n + UP_ROWS, block);
            products.y += largest / MOST * (up.x * total(up_dots) - up.y * sum);
        }
    }
    store(t, n, products.x, products.y);
}
