// out = epilogue(weight . prologue(x)): one thread per four weight rows (where GATED: two outputs, gate and up rows
// alternating), TILE tokens at once (1 or 4). Everything is in named vectors, nothing in indexed arrays, and no thread
// waits for another but for a norm or staged activations: what CPU adapters run fastest.
// Header: WORKGROUP, TILE, OUTPUTS, UNITS, TOKENS. Roles: quant/*, layout_*, x_*, sum*, norm*, prologue,
// statistics_workgroup, stage_*, epilogue.
const QUAD_OUTPUTS: u32 = 4u / PARTS;

struct Quad {
    row_0: Eight,
    row_1: Eight,
    row_2: Eight,
    row_3: Eight,
}

fn dots4(codes: Quad, x: Eight) -> vec4f {
    return vec4f(dot8(codes.row_0, x), dot8(codes.row_1, x), dot8(codes.row_2, x), dot8(codes.row_3, x));
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group_id: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let index = group_id.y * groups.x + group_id.x;
    const PER_WORKGROUP = WORKGROUP * QUAD_OUTPUTS;
    let per_tile = (OUTPUTS + PER_WORKGROUP - 1u) / PER_WORKGROUP;
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
    stage_done();

    let n = (index % per_tile * WORKGROUP + local.x) * QUAD_OUTPUTS;
    let first_row = first_weight_row(first);
    // rows beyond the last are computed twice rather than guarded
    let row_0 = first_row + min(n, OUTPUTS - 1u);
    let row_1 = select(first_row + min(n + 1u, OUTPUTS - 1u), row_0 + UP_ROWS, GATED);
    let row_2 = first_row + min(n + select(2u, 1u, GATED), OUTPUTS - 1u);
    let row_3 = select(first_row + min(n + 3u, OUTPUTS - 1u), row_2 + UP_ROWS, GATED);
    var products_0 = vec4f(0.0);
    var products_1 = vec4f(0.0);
    var products_2 = vec4f(0.0);
    var products_3 = vec4f(0.0);
    for (var group = 0u; group < UNITS * 8u / GROUP; group++) {
        var dots_0 = vec4f(0.0);
        var dots_1 = vec4f(0.0);
        var dots_2 = vec4f(0.0);
        var dots_3 = vec4f(0.0);
        var sums = vec4f(0.0);
        for (var unit = group * (GROUP / 8u); unit < (group + 1u) * (GROUP / 8u); unit++) {
            let codes = Quad(quants8(row_0, unit), quants8(row_1, unit), quants8(row_2, unit), quants8(row_3, unit));
            let x_0 = staged_x8(0u, base_0, unit, stats_0);
            dots_0 += dots4(codes, x_0);
            if (HAS_MINIMUM) {
                sums.x += sum8(x_0);
            }
            if (TILE > 1u) {
                let x_1 = staged_x8(1u, base_1, unit, stats_1);
                let x_2 = staged_x8(2u, base_2, unit, stats_2);
                let x_3 = staged_x8(3u, base_3, unit, stats_3);
                dots_1 += dots4(codes, x_1);
                dots_2 += dots4(codes, x_2);
                dots_3 += dots4(codes, x_3);
                if (HAS_MINIMUM) {
                    sums += vec4f(0.0, sum8(x_1), sum8(x_2), sum8(x_3));
                }
            }
        }
        let scale_0 = group_scale(row_0, group);
        let scale_1 = group_scale(row_1, group);
        let scale_2 = group_scale(row_2, group);
        let scale_3 = group_scale(row_3, group);
        let scale = vec4f(scale_0.x, scale_1.x, scale_2.x, scale_3.x);
        products_0 += scale * dots_0;
        if (TILE > 1u) {
            products_1 += scale * dots_1;
            products_2 += scale * dots_2;
            products_3 += scale * dots_3;
        }
        if (HAS_MINIMUM) {
            let minimum = vec4f(scale_0.y, scale_1.y, scale_2.y, scale_3.y);
            products_0 -= minimum * sums.x;
            if (TILE > 1u) {
                products_1 -= minimum * sums.y;
                products_2 -= minimum * sums.z;
                products_3 -= minimum * sums.w;
            }
        }
    }
    store_quad(first, n, products_0);
    if (TILE > 1u) {
        if (first + 1u < count) {
            store_quad(first + 1u, n, products_1);
        }
        if (first + 2u < count) {
            store_quad(first + 2u, n, products_2);
        }
        if (first + 3u < count) {
            store_quad(first + 3u, n, products_3);
        }
    }
}
