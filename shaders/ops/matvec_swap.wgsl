// out = epilogue(weight . prologue(x)): one thread per ROWS weight rows (4 or 8; where GATED gate and up rows alternate),
// TILE tokens at once (1, 2, 4 or 8), eight columns per step. Made for SwiftShader, where a load costs 50 cycles whatever it
// reads, a vector shift or a broadcast 16, and a product 2: so each of four lanes loads one activation of four, the lanes
// swap them in pairs, and each lane picks the code of the column that it was handed with a mask of its own. A masked code is
// left where it is in the word: it is the code times a power of two, whose inverse the activation carries. Exact in f32.
// Lane l holds in component j the column 4 * n + (l ^ j). Columns are a multiple of 32.
// Header: WORKGROUP, ROWS, TILE, OUTPUTS, UNITS, TOKENS. Roles: tile, quant/swap/*, swap_*, tokens_dense, sum*, norm*, prologue,
// statistics_workgroup, stage_*, epilogue.
struct Quad {
    row_0: Eight,
    row_1: Eight,
    row_2: Eight,
    row_3: Eight,
}

struct Codes {
    a: Quad,
    b: Quad,
}

struct Tokens {
    low: vec4f,   // of tokens 0 to 3
    high: vec4f,  // of tokens 4 to 7
}

// Activations of eight columns: swapped and with the inverse powers, and as loaded.
struct Given {
    values: Eight,
    loaded: vec2f,
}

fn swapped(value: f32) -> vec4f {
    return vec4f(value, quadSwapX(value), quadSwapY(value), quadSwapDiagonal(value));
}

fn quad_sum(value: f32) -> f32 {
    let pair = value + quadSwapX(value);
    return pair + quadSwapY(pair);
}

fn given(t: u32, base: u32, unit: u32, lane: u32, powers: vec2f) -> Given {
    let loaded = lane_x(t, base, unit, lane);
    let scaled = loaded * powers;
    return Given(Eight(swapped(scaled.x), swapped(scaled.y)), loaded);
}

fn quad_codes(rows: vec4u, unit: u32, more: vec4u, lanes: Lanes) -> Quad {
    return Quad(
        swap_codes(rows.x, unit, more.x, lanes),
        swap_codes(rows.y, unit, more.y, lanes),
        swap_codes(rows.z, unit, more.z, lanes),
        swap_codes(rows.w, unit, more.w, lanes),
    );
}

fn dots4(codes: Quad, x: Eight) -> vec4f {
    return vec4f(dot8(codes.row_0, x), dot8(codes.row_1, x), dot8(codes.row_2, x), dot8(codes.row_3, x));
}

fn added(dots: Sums, codes: Codes, x: Eight) -> Sums {
    if (ROWS > 4u) {
        return Sums(dots.a + dots4(codes.a, x), dots.b + dots4(codes.b, x));
    }
    return Sums(dots.a + dots4(codes.a, x), dots.b);
}

fn scaled(products: Sums, dots: Sums, d: Sums, m: Sums, offset: f32, total: f32) -> Sums {
    if (HAS_MINIMUM) {
        return Sums(
            products.a + d.a * (dots.a + offset) - m.a * total,
            products.b + d.b * (dots.b + offset) - m.b * total,
        );
    }
    return Sums(products.a + d.a * (dots.a + offset), products.b + d.b * (dots.b + offset));
}

fn more4(rows: vec4u, group: u32) -> vec4u {
    return vec4u(swap_more(rows.x, group), swap_more(rows.y, group), swap_more(rows.z, group), swap_more(rows.w, group));
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group_id: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
    @builtin(subgroup_invocation_id) invocation: u32,
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
    let rows_a = vec4u(thread_row(n, 0u), thread_row(n, 1u), thread_row(n, 2u), thread_row(n, 3u));
    var rows_b = rows_a;
    if (ROWS > 4u) {
        rows_b = vec4u(thread_row(n, 4u), thread_row(n, 5u), thread_row(n, 6u), thread_row(n, 7u));
    }
    let lane = invocation % 4u;
    let powers = swap_powers(lane);
    let offsets = swap_offsets(lane);
    var products_0 = Sums();
    var products_1 = Sums();
    var products_2 = Sums();
    var products_3 = Sums();
    var products_4 = Sums();
    var products_5 = Sums();
    var products_6 = Sums();
    var products_7 = Sums();
    for (var group = 0u; group < UNITS / 4u; group++) {
        let more_a = more4(rows_a, group);
        var more_b = vec4u(0u);
        if (ROWS > 4u) {
            more_b = more4(rows_b, group);
        }
        var dots_0 = Sums();
        var dots_1 = Sums();
        var dots_2 = Sums();
        var dots_3 = Sums();
        var dots_4 = Sums();
        var dots_5 = Sums();
        var dots_6 = Sums();
        var dots_7 = Sums();
        // per token and lane: what the codes are short of, and sums for formats with a minimum
        var offset = Tokens();
        var total = Tokens();
        var lanes = swap_lanes(lane);
        for (var unit = group * 4u; unit < group * 4u + 4u; unit++) {
            var codes = Codes();
            codes.a = quad_codes(rows_a, unit, more_a, lanes);
            if (ROWS > 4u) {
                codes.b = quad_codes(rows_b, unit, more_b, lanes);
            }
            lanes = next_lanes(lanes);
            let x_0 = given(0u, base_0, unit, lane, powers);
            dots_0 = added(dots_0, codes, x_0.values);
            offset.low.x += dot(x_0.loaded, offsets);
            total.low.x += x_0.loaded.x + x_0.loaded.y;
            if (TILE > 1u) {
                let x_1 = given(1u, base_1, unit, lane, powers);
                dots_1 = added(dots_1, codes, x_1.values);
                offset.low.y += dot(x_1.loaded, offsets);
                total.low.y += x_1.loaded.x + x_1.loaded.y;
            }
            if (TILE > 2u) {
                let x_2 = given(2u, base_2, unit, lane, powers);
                dots_2 = added(dots_2, codes, x_2.values);
                offset.low.z += dot(x_2.loaded, offsets);
                total.low.z += x_2.loaded.x + x_2.loaded.y;
                let x_3 = given(3u, base_3, unit, lane, powers);
                dots_3 = added(dots_3, codes, x_3.values);
                offset.low.w += dot(x_3.loaded, offsets);
                total.low.w += x_3.loaded.x + x_3.loaded.y;
            }
            if (TILE > 4u) {
                let x_4 = given(4u, base_4, unit, lane, powers);
                dots_4 = added(dots_4, codes, x_4.values);
                offset.high.x += dot(x_4.loaded, offsets);
                total.high.x += x_4.loaded.x + x_4.loaded.y;
                let x_5 = given(5u, base_5, unit, lane, powers);
                dots_5 = added(dots_5, codes, x_5.values);
                offset.high.y += dot(x_5.loaded, offsets);
                total.high.y += x_5.loaded.x + x_5.loaded.y;
                let x_6 = given(6u, base_6, unit, lane, powers);
                dots_6 = added(dots_6, codes, x_6.values);
                offset.high.z += dot(x_6.loaded, offsets);
                total.high.z += x_6.loaded.x + x_6.loaded.y;
                let x_7 = given(7u, base_7, unit, lane, powers);
                dots_7 = added(dots_7, codes, x_7.values);
                offset.high.w += dot(x_7.loaded, offsets);
                total.high.w += x_7.loaded.x + x_7.loaded.y;
            }
        }
        let s_0 = swap_scale(rows_a.x, group);
        let s_1 = swap_scale(rows_a.y, group);
        let s_2 = swap_scale(rows_a.z, group);
        let s_3 = swap_scale(rows_a.w, group);
        var d = Sums(vec4f(s_0.x, s_1.x, s_2.x, s_3.x), vec4f(0.0));
        var m = Sums(vec4f(s_0.y, s_1.y, s_2.y, s_3.y), vec4f(0.0));
        if (ROWS > 4u) {
            let s_4 = swap_scale(rows_b.x, group);
            let s_5 = swap_scale(rows_b.y, group);
            let s_6 = swap_scale(rows_b.z, group);
            let s_7 = swap_scale(rows_b.w, group);
            d.b = vec4f(s_4.x, s_5.x, s_6.x, s_7.x);
            m.b = vec4f(s_4.y, s_5.y, s_6.y, s_7.y);
        }
        products_0 = scaled(products_0, dots_0, d, m, quad_sum(offset.low.x), quad_sum(total.low.x));
        if (TILE > 1u) {
            products_1 = scaled(products_1, dots_1, d, m, quad_sum(offset.low.y), quad_sum(total.low.y));
        }
        if (TILE > 2u) {
            products_2 = scaled(products_2, dots_2, d, m, quad_sum(offset.low.z), quad_sum(total.low.z));
            products_3 = scaled(products_3, dots_3, d, m, quad_sum(offset.low.w), quad_sum(total.low.w));
        }
        if (TILE > 4u) {
            products_4 = scaled(products_4, dots_4, d, m, quad_sum(offset.high.x), quad_sum(total.high.x));
            products_5 = scaled(products_5, dots_5, d, m, quad_sum(offset.high.y), quad_sum(total.high.y));
            products_6 = scaled(products_6, dots_6, d, m, quad_sum(offset.high.z), quad_sum(total.high.z));
            products_7 = scaled(products_7, dots_7, d, m, quad_sum(offset.high.w), quad_sum(total.high.w));
        }
    }
    store_tile(first, count, n, products_0, products_1, products_2, products_3, products_4, products_5, products_6, products_7);
}
