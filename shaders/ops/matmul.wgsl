// out = epilogue(weight . x) for many tokens: a workgroup computes a tile of BLOCK_ROWS weight rows by BLOCK_TOKENS
// tokens from tiles in workgroup memory, a thread four weight rows by THREAD_TOKENS tokens. Where GATED, gate and up
// rows alternate inside the tile, so that a thread holds both of a pair. SPLIT groups of threads have tiles of their own,
// of every SPLIT-th pass over the columns, and add up at the end. No prologue.
// Header: BLOCK_ROWS, BLOCK_TOKENS, BLOCK_UNITS (units of eight columns per pass), THREAD_TOKENS (4 or 8), SPLIT, OUTPUTS,
// UNITS, TOKENS. Roles: quant/*, layout_*, x_*, sum_none, norm_none, split*, epilogue.
const ROW_QUADS: u32 = BLOCK_ROWS / 4u;
const TOKEN_QUADS: u32 = BLOCK_TOKENS / 4u;
const THREAD_QUADS: u32 = THREAD_TOKENS / 4u;
const GROUP_THREADS: u32 = ROW_QUADS * (BLOCK_TOKENS / THREAD_TOKENS);
const WORKGROUP: u32 = GROUP_THREADS * SPLIT;
const OUTPUTS_PER_TILE: u32 = BLOCK_ROWS / PARTS;
const_assert !HAS_NORM && !HAS_SUM;

// [group of threads][column][four rows or tokens]
var<workgroup> weight_tile: array<vec4f, SPLIT * BLOCK_UNITS * 8u * ROW_QUADS>;
var<workgroup> x_tile: array<vec4f, SPLIT * BLOCK_UNITS * 8u * TOKEN_QUADS>;

// Sums of a split lie where the weights were.
const_assert BLOCK_TOKENS * (SPLIT - 1u) <= SPLIT * BLOCK_UNITS * 8u;

fn keep_part(i: u32, products: vec4f) {
    weight_tile[i] = products;
}

fn kept_part(i: u32) -> vec4f {
    return weight_tile[i];
}

fn weight8(n: u32, part: u32, unit: u32) -> Eight {
    let row = first_weight_row(0u) + min(n, OUTPUTS - 1u) + part * UP_ROWS;
    let codes = quants8(row, unit);
    let scale = group_scale(row, unit * 8u / GROUP);
    return Eight(codes.low * scale.x - scale.y, codes.high * scale.x - scale.y);
}

// Weights of tile row r: an output's only row, or alternating its gate and its up row.
fn tile_weight8(first_output: u32, r: u32, unit: u32) -> Eight {
    return weight8(first_output + r / PARTS, r % PARTS, unit);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group_id: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let index = group_id.y * groups.x + group_id.x;
    let per_tile = (OUTPUTS + OUTPUTS_PER_TILE - 1u) / OUTPUTS_PER_TILE;
    let first_token = index / per_tile * BLOCK_TOKENS;
    let first_output = index % per_tile * OUTPUTS_PER_TILE;
    let count = token_count();
    if (first_token >= count) {
        return;
    }
    let thread = local.x % GROUP_THREADS;
    let part = local.x / GROUP_THREADS;
    let weights_at = part * BLOCK_UNITS * 8u * ROW_QUADS;
    let x_at = part * BLOCK_UNITS * 8u * TOKEN_QUADS;
    let row_quad = thread % ROW_QUADS;
    let token_part = thread / ROW_QUADS;
    var products: array<vec4f, THREAD_TOKENS>;
    for (var first_unit = 0u; first_unit < UNITS; first_unit += BLOCK_UNITS * SPLIT) {
        let pass_unit = first_unit + part * BLOCK_UNITS;
        for (var i = thread; i < BLOCK_UNITS * ROW_QUADS; i += GROUP_THREADS) {
            let quad = i / BLOCK_UNITS;
            let unit = i % BLOCK_UNITS;
            var w_0 = Eight();
            var w_1 = Eight();
            var w_2 = Eight();
            var w_3 = Eight();
            if (pass_unit + unit < UNITS) {
                w_0 = tile_weight8(first_output, quad * 4u, pass_unit + unit);
                w_1 = tile_weight8(first_output, quad * 4u + 1u, pass_unit + unit);
                w_2 = tile_weight8(first_output, quad * 4u + 2u, pass_unit + unit);
                w_3 = tile_weight8(first_output, quad * 4u + 3u, pass_unit + unit);
            }
            let low = transpose(mat4x4f(w_0.low, w_1.low, w_2.low, w_3.low));
            let high = transpose(mat4x4f(w_0.high, w_1.high, w_2.high, w_3.high));
            let at = weights_at + unit * 8u * ROW_QUADS + quad;
            weight_tile[at] = low[0];
            weight_tile[at + ROW_QUADS] = low[1];
            weight_tile[at + 2u * ROW_QUADS] = low[2];
            weight_tile[at + 3u * ROW_QUADS] = low[3];
            weight_tile[at + 4u * ROW_QUADS] = high[0];
            weight_tile[at + 5u * ROW_QUADS] = high[1];
            weight_tile[at + 6u * ROW_QUADS] = high[2];
            weight_tile[at + 7u * ROW_QUADS] = high[3];
        }
        for (var i = thread; i < BLOCK_UNITS * TOKEN_QUADS; i += GROUP_THREADS) {
            let quad = i / BLOCK_UNITS;
            let unit = i % BLOCK_UNITS;
            let t = first_token + quad * 4u;
            var x_0 = Eight();
            var x_1 = Eight();
            var x_2 = Eight();
            var x_3 = Eight();
            if (pass_unit + unit < UNITS) {
                // padding tokens repeat the last one: their products are not stored
                x_0 = x8(x_base(min(t, count - 1u)), pass_unit + unit);
                x_1 = x8(x_base(min(t + 1u, count - 1u)), pass_unit + unit);
                x_2 = x8(x_base(min(t + 2u, count - 1u)), pass_unit + unit);
                x_3 = x8(x_base(min(t + 3u, count - 1u)), pass_unit + unit);
            }
            let low = transpose(mat4x4f(x_0.low, x_1.low, x_2.low, x_3.low));
            let high = transpose(mat4x4f(x_0.high, x_1.high, x_2.high, x_3.high));
            let at = x_at + unit * 8u * TOKEN_QUADS + quad;
            x_tile[at] = low[0];
            x_tile[at + TOKEN_QUADS] = low[1];
            x_tile[at + 2u * TOKEN_QUADS] = low[2];
            x_tile[at + 3u * TOKEN_QUADS] = low[3];
            x_tile[at + 4u * TOKEN_QUADS] = high[0];
            x_tile[at + 5u * TOKEN_QUADS] = high[1];
            x_tile[at + 6u * TOKEN_QUADS] = high[2];
            x_tile[at + 7u * TOKEN_QUADS] = high[3];
        }
        workgroupBarrier();
        for (var column = 0u; column < BLOCK_UNITS * 8u; column++) {
            let w = weight_tile[weights_at + column * ROW_QUADS + row_quad];
            for (var q = 0u; q < THREAD_QUADS; q++) {
                let x_q = x_tile[x_at + column * TOKEN_QUADS + token_part * THREAD_QUADS + q];
                products[q * 4u] += w * x_q.x;
                products[q * 4u + 1u] += w * x_q.y;
                products[q * 4u + 2u] += w * x_q.z;
                products[q * 4u + 3u] += w * x_q.w;
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < THREAD_TOKENS; i++) {
        give_part(part, thread, i, products[i]);
    }
    parts_done();
    for (var i = 0u; i < THREAD_TOKENS; i++) {
        let t = first_token + token_part * THREAD_TOKENS + i;
        if (t < count && part == 0u) {
            store_quad(t, first_output + row_quad * (4u / PARTS), products[i] + other_parts(thread, i));
        }
    }
}
