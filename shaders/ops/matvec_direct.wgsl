// out = epilogue(weight . prologue(x)): one thread per output, the whole row alone, TILE tokens at once (1 or 4).
// No workgroup memory but for the norm's statistics: the plain twin of all others, and the fast one on CPU adapters.
// Header: WORKGROUP, TILE, OUTPUTS, UNITS, TOKENS. Roles: quant/*, layout_*, x_*, sum*, norm*, prologue,
// statistics_*, stage_none, epilogue.
@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group_id: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let index = group_id.y * groups.x + group_id.x;
    let per_tile = (OUTPUTS + WORKGROUP - 1u) / WORKGROUP;
    let first = index / per_tile * TILE;
    let count = token_count();
    if (first >= count || !is_here(min(first, count - 1u))) {
        return;
    }
    let last = count - 1u;
    let base_0 = x_base(first);
    let base_1 = x_base(min(first + 1u, last));
    let base_2 = x_base(min(first + 2u, last));
    let base_3 = x_base(min(first + 3u, last));
    let keeps = index % per_tile == 0u;
    let stats_0 = prologue(local.x, 0u, base_0, keeps);
    var stats_1 = stats_0;
    var stats_2 = stats_0;
    var stats_3 = stats_0;
    if (TILE > 1u) {
        stats_1 = prologue(local.x, 1u, base_1, keeps && first + 1u < count);
        stats_2 = prologue(local.x, 2u, base_2, keeps && first + 2u < count);
        stats_3 = prologue(local.x, 3u, base_3, keeps && first + 3u < count);
    }
    let n = index % per_tile * WORKGROUP + local.x;
    if (n >= OUTPUTS) {
        return;
    }
    let first_row = first_weight_row(first) + n;
    var products = array<vec4f, 2>();
    for (var part = 0u; part < PARTS; part++) {
        let row = first_row + part * UP_ROWS;
        var product = vec4f(0.0);
        for (var group = 0u; group < UNITS * 8u / GROUP; group++) {
            var dots = vec4f(0.0);
            var sums = vec4f(0.0);
            for (var i = 0u; i < GROUP / 8u; i++) {
                let unit = group * (GROUP / 8u) + i;
                let codes = quants8(row, unit);
                let x_0 = staged_x8(0u, base_0, unit, stats_0);
                dots.x += dot8(codes, x_0);
                if (HAS_MINIMUM) {
                    sums.x += sum8(x_0);
                }
                if (TILE > 1u) {
                    let x_1 = staged_x8(1u, base_1, unit, stats_1);
                    let x_2 = staged_x8(2u, base_2, unit, stats_2);
                    let x_3 = staged_x8(3u, base_3, unit, stats_3);
                    dots.y += dot8(codes, x_1);
                    dots.z += dot8(codes, x_2);
                    dots.w += dot8(codes, x_3);
                    if (HAS_MINIMUM) {
                        sums.y += sum8(x_1);
                        sums.z += sum8(x_2);
                        sums.w += sum8(x_3);
                    }
                }
            }
            let scale = group_scale(row, group);
            product += scale.x * dots;
            if (HAS_MINIMUM) {
                product -= scale.y * sums;
            }
        }
        products[part] = product;
    }
    store(first, n, products[0].x, products[1].x);
    if (TILE > 1u) {
        if (first + 1u < count) {
            store(first + 1u, n, products[0].y, products[1].y);
        }
        if (first + 2u < count) {
            store(first + 2u, n, products[0].z, products[1].z);
        }
        if (first + 3u < count) {
            store(first + 3u, n, products[0].w, products[1].w);
        }
    }
}
