// out = epilogue(weight . prologue(x)): one thread per ROWS weight rows (4 or 8; where GATED gate and up rows alternate),
// TILE tokens at once (1, 2, 4 or 8), 32 columns per step. What all threads need, the activations, is loaded once per
// subgroup and broadcast: on CPU adapters a load costs as much as many products. No thread waits for another but for a
// prologue; everything is in named vectors. Columns are a multiple of 32.
// Header: WORKGROUP, ROWS, TILE, OUTPUTS, UNITS, TOKENS. Roles: tile, quant/*, quant/wide*, share_*, tokens_dense, sum*, norm*,
// prologue, statistics_workgroup, stage_*, epilogue.
struct Quad {
    row_0: Words,
    row_1: Words,
    row_2: Words,
    row_3: Words,
}

struct Shares {
    t_0: Share,
    t_1: Share,
    t_2: Share,
    t_3: Share,
    t_4: Share,
    t_5: Share,
    t_6: Share,
    t_7: Share,
}

struct Inputs {
    t_0: Eight,
    t_1: Eight,
    t_2: Eight,
    t_3: Eight,
    t_4: Eight,
    t_5: Eight,
    t_6: Eight,
    t_7: Eight,
}

var<private> rows_a: vec4u;
var<private> rows_b: vec4u;
var<private> words_a: Quad;
var<private> words_b: Quad;
// per token: the products of a scale's columns, and what is finished
var<private> dots_0: Sums;
var<private> dots_1: Sums;
var<private> dots_2: Sums;
var<private> dots_3: Sums;
var<private> dots_4: Sums;
var<private> dots_5: Sums;
var<private> dots_6: Sums;
var<private> dots_7: Sums;
var<private> products_0: Sums;
var<private> products_1: Sums;
var<private> products_2: Sums;
var<private> products_3: Sums;
var<private> products_4: Sums;
var<private> products_5: Sums;
var<private> products_6: Sums;
var<private> products_7: Sums;
// per token: sums of activations, for formats with a minimum
var<private> totals_low: vec4f;
var<private> totals_high: vec4f;

fn quad_words(rows: vec4u, block: u32) -> Quad {
    return Quad(words32(rows.x, block), words32(rows.y, block), words32(rows.z, block), words32(rows.w, block));
}

struct Codes {
    row_0: Eight,
    row_1: Eight,
    row_2: Eight,
    row_3: Eight,
}

fn quad_codes(words: Quad, u: u32) -> Codes {
    return Codes(codes8(words.row_0, u), codes8(words.row_1, u), codes8(words.row_2, u), codes8(words.row_3, u));
}

fn dots4(codes: Codes, x: Eight) -> vec4f {
    return vec4f(dot8(codes.row_0, x), dot8(codes.row_1, x), dot8(codes.row_2, x), dot8(codes.row_3, x));
}

// Adds unit u of the 32 columns to the dots.
fn add_unit(u: u32, x: Inputs) {
    let codes_a = quad_codes(words_a, u);
    dots_0.a += dots4(codes_a, x.t_0);
    if (TILE > 1u) {
        dots_1.a += dots4(codes_a, x.t_1);
    }
    if (TILE > 2u) {
        dots_2.a += dots4(codes_a, x.t_2);
        dots_3.a += dots4(codes_a, x.t_3);
    }
    if (TILE > 4u) {
        dots_4.a += dots4(codes_a, x.t_4);
        dots_5.a += dots4(codes_a, x.t_5);
        dots_6.a += dots4(codes_a, x.t_6);
        dots_7.a += dots4(codes_a, x.t_7);
    }
    if (ROWS > 4u) {
        let codes_b = quad_codes(words_b, u);
        dots_0.b += dots4(codes_b, x.t_0);
        if (TILE > 1u) {
            dots_1.b += dots4(codes_b, x.t_1);
        }
        if (TILE > 2u) {
            dots_2.b += dots4(codes_b, x.t_2);
            dots_3.b += dots4(codes_b, x.t_3);
        }
        if (TILE > 4u) {
            dots_4.b += dots4(codes_b, x.t_4);
            dots_5.b += dots4(codes_b, x.t_5);
            dots_6.b += dots4(codes_b, x.t_6);
            dots_7.b += dots4(codes_b, x.t_7);
        }
    }
    if (HAS_MINIMUM) {
        totals_low.x += sum8(x.t_0);
        if (TILE > 1u) {
            totals_low.y += sum8(x.t_1);
        }
        if (TILE > 2u) {
            totals_low += vec4f(0.0, 0.0, sum8(x.t_2), sum8(x.t_3));
        }
        if (TILE > 4u) {
            totals_high += vec4f(sum8(x.t_4), sum8(x.t_5), sum8(x.t_6), sum8(x.t_7));
        }
    }
}

fn scaled(products: Sums, dots: Sums, d: Sums, m: Sums, total: f32) -> Sums {
    if (HAS_MINIMUM) {
        return Sums(products.a + d.a * dots.a - m.a * total, products.b + d.b * dots.b - m.b * total);
    }
    return Sums(products.a + d.a * dots.a, products.b + d.b * dots.b);
}

// Multiplies the dots by the scales of `group` and starts anew.
fn finish_group(group: u32) {
    let s_0 = group_scale(rows_a.x, group);
    let s_1 = group_scale(rows_a.y, group);
    let s_2 = group_scale(rows_a.z, group);
    let s_3 = group_scale(rows_a.w, group);
    var d = Sums(vec4f(s_0.x, s_1.x, s_2.x, s_3.x), vec4f(0.0));
    var m = Sums(vec4f(s_0.y, s_1.y, s_2.y, s_3.y), vec4f(0.0));
    if (ROWS > 4u) {
        let s_4 = group_scale(rows_b.x, group);
        let s_5 = group_scale(rows_b.y, group);
        let s_6 = group_scale(rows_b.z, group);
        let s_7 = group_scale(rows_b.w, group);
        d.b = vec4f(s_4.x, s_5.x, s_6.x, s_7.x);
        m.b = vec4f(s_4.y, s_5.y, s_6.y, s_7.y);
    }
    products_0 = scaled(products_0, dots_0, d, m, totals_low.x);
    dots_0 = Sums();
    if (TILE > 1u) {
        products_1 = scaled(products_1, dots_1, d, m, totals_low.y);
        dots_1 = Sums();
    }
    if (TILE > 2u) {
        products_2 = scaled(products_2, dots_2, d, m, totals_low.z);
        products_3 = scaled(products_3, dots_3, d, m, totals_low.w);
        dots_2 = Sums();
        dots_3 = Sums();
    }
    if (TILE > 4u) {
        products_4 = scaled(products_4, dots_4, d, m, totals_high.x);
        products_5 = scaled(products_5, dots_5, d, m, totals_high.y);
        products_6 = scaled(products_6, dots_6, d, m, totals_high.z);
        products_7 = scaled(products_7, dots_7, d, m, totals_high.w);
        dots_4 = Sums();
        dots_5 = Sums();
        dots_6 = Sums();
        dots_7 = Sums();
    }
    totals_low = vec4f(0.0);
    totals_high = vec4f(0.0);
}

fn unit_inputs(u: u32, s: Shares) -> Inputs {
    var x = Inputs();
    x.t_0 = share8(s.t_0, u);
    if (TILE > 1u) {
        x.t_1 = share8(s.t_1, u);
    }
    if (TILE > 2u) {
        x.t_2 = share8(s.t_2, u);
        x.t_3 = share8(s.t_3, u);
    }
    if (TILE > 4u) {
        x.t_4 = share8(s.t_4, u);
        x.t_5 = share8(s.t_5, u);
        x.t_6 = share8(s.t_6, u);
        x.t_7 = share8(s.t_7, u);
    }
    return x;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group_id: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let index = group_id.y * groups.x + group_id.x;
    const PER_WORKGROUP = WORKGROUP * OUTPUTS_PER_THREAD;
    let per_tile = (OUTPUTS + PER_WORKGROUP - 1u) / PER_WORKGROUP;
    let first = index / per_tile * TILE;
    let count = token_count();
    if (first >= count) {
        return;
    }
    let last = count - 1u;
    let base_0 = x_base(first);
    let base_1 = x_base(min(first + 1u, last));
    let base_2 = x_base(min(first + 2u, last));
    let base_3 = x_base(min(first + 3u, last));
    let base_4 = x_base(min(first + 4u, last));
    let base_5 = x_base(min(first + 5u, last));
    let base_6 = x_base(min(first + 6u, last));
    let base_7 = x_base(min(first + 7u, last));
    let keeps = index % per_tile == 0u;
    prologues(local.x, first, count, keeps, base_0, base_1, base_2, base_3, base_4, base_5, base_6, base_7);

    let n = (index % per_tile * WORKGROUP + local.x) * OUTPUTS_PER_THREAD;
    rows_a = vec4u(thread_row(n, 0u), thread_row(n, 1u), thread_row(n, 2u), thread_row(n, 3u));
    if (ROWS > 4u) {
        rows_b = vec4u(thread_row(n, 4u), thread_row(n, 5u), thread_row(n, 6u), thread_row(n, 7u));
    }
    for (var block = 0u; block < UNITS / 4u; block++) {
        words_a = quad_words(rows_a, block);
        if (ROWS > 4u) {
            words_b = quad_words(rows_b, block);
        }
        var s = Shares();
        s.t_0 = share32(0u, base_0, block, lane);
        if (TILE > 1u) {
            s.t_1 = share32(1u, base_1, block, lane);
        }
        if (TILE > 2u) {
            s.t_2 = share32(2u, base_2, block, lane);
            s.t_3 = share32(3u, base_3, block, lane);
        }
        if (TILE > 4u) {
            s.t_4 = share32(4u, base_4, block, lane);
            s.t_5 = share32(5u, base_5, block, lane);
            s.t_6 = share32(6u, base_6, block, lane);
            s.t_7 = share32(7u, base_7, block, lane);
        }
        const PER_BLOCK = 32u / GROUP;
        add_unit(0u, unit_inputs(0u, s));
        if (GROUP == 8u) {
            finish_group(block * PER_BLOCK);
        }
        add_unit(1u, unit_inputs(1u, s));
        if (GROUP <= 16u) {
            finish_group(block * PER_BLOCK + 16u / GROUP - 1u);
        }
        add_unit(2u, unit_inputs(2u, s));
        if (GROUP == 8u) {
            finish_group(block * PER_BLOCK + 2u);
        }
        add_unit(3u, unit_inputs(3u, s));
        finish_group(block * PER_BLOCK + PER_BLOCK - 1u);
    }
    store_tile(first, count, n, products_0, products_1, products_2, products_3, products_4, products_5, products_6, products_7);
}
