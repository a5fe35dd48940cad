// out = epilogue(weight . rounded(x)) for many tokens: tiles as in matmul, but of codes. Weights are unpacked and activations
// rounded into workgroup memory, by blocks of 32 columns; a thread adds products per block, then times both scales in f32.
// No prologue.
// Header: BLOCK_ROWS, BLOCK_TOKENS, PASS_BLOCKS (blocks of 32 columns per pass), THREAD_TOKENS, SPLIT, OUTPUTS, UNITS, TOKENS,
// CODE_OFFSET. Roles: quant/wide/*, quant/int8/* or half/*, layout_*, x_*, rounded, int8 or f16, sum_none, norm_none,
// split*, epilogue.
const ROW_QUADS: u32 = BLOCK_ROWS / 4u;
const GROUP_THREADS: u32 = ROW_QUADS * (BLOCK_TOKENS / THREAD_TOKENS);
const WORKGROUP: u32 = GROUP_THREADS * SPLIT;
const OUTPUTS_PER_TILE: u32 = BLOCK_ROWS / PARTS;
const BLOCKS: u32 = UNITS / 4u;
const_assert !HAS_NORM && !HAS_SUM;
const_assert GROUP == 32u;

// [group of threads][block][half][row or token]; row 4 q + c lies at c * ROW_QUADS + q, so that neighbours read neighbours
var<workgroup> weight_tile: array<Half, SPLIT * PASS_BLOCKS * 2u * BLOCK_ROWS>;
var<workgroup> weight_scales: array<vec2f, SPLIT * PASS_BLOCKS * BLOCK_ROWS>;
var<workgroup> x_tile: array<Half, SPLIT * PASS_BLOCKS * 2u * BLOCK_TOKENS>;
var<workgroup> x_scales: array<vec2f, SPLIT * PASS_BLOCKS * BLOCK_TOKENS>;
var<workgroup> part_sums: array<vec4f, max(SPLIT - 1u, 1u) * THREAD_TOKENS * GROUP_THREADS>;

fn keep_part(i: u32, products: vec4f) {
    part_sums[i] = products;
}

fn kept_part(i: u32) -> vec4f {
    return part_sums[i];
}

// Fills place `at` of the tile with row r: an output's only row, or alternating its gate and its up row.
fn load_weights(at: u32, first_output: u32, r: u32, block: u32) {
    let place = r % 4u * ROW_QUADS + r / 4u;
    var codes = Codes();
    var scale = vec2f(0.0);
    if (block < BLOCKS) {
        let row = min(first_output + r / PARTS, OUTPUTS - 1u) + r % PARTS * UP_ROWS;
        codes = codes32(row, block);
        scale = group_scale(row, block);
    }
    weight_tile[at * 2u * BLOCK_ROWS + place] = codes.low;
    weight_tile[(at * 2u + 1u) * BLOCK_ROWS + place] = codes.high;
    weight_scales[at * BLOCK_ROWS + place] = scale;
}

fn load_x(at: u32, place: u32, base: u32, block: u32) {
    var rounded = Rounded();
    if (block < BLOCKS) {
        let unit = block * 4u;
        rounded = round32(x8(base, unit), x8(base, unit + 1u), x8(base, unit + 2u), x8(base, unit + 3u));
    }
    x_tile[at * 2u * BLOCK_TOKENS + place] = rounded.low;
    x_tile[(at * 2u + 1u) * BLOCK_TOKENS + place] = rounded.high;
    x_scales[at * BLOCK_TOKENS + place] = vec2f(rounded.scale, rounded.sum);
}

fn tile_codes(at: u32, place: u32) -> Codes {
    return Codes(weight_tile[at * 2u * BLOCK_ROWS + place], weight_tile[(at * 2u + 1u) * BLOCK_ROWS + place]);
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
    let row_quad = thread % ROW_QUADS;
    let token_part = thread / ROW_QUADS;
    var products: array<vec4f, THREAD_TOKENS>;
    for (var first_block = 0u; first_block < BLOCKS; first_block += PASS_BLOCKS * SPLIT) {
        let pass_block = first_block + part * PASS_BLOCKS;
        // tokens first: whole subgroups round, others unpack
        for (var i = thread; i < PASS_BLOCKS * (BLOCK_TOKENS + BLOCK_ROWS); i += GROUP_THREADS) {
            if (i < PASS_BLOCKS * BLOCK_TOKENS) {
                let block = i / BLOCK_TOKENS;
                // padding tokens repeat the last one: their products are not stored
                let t = min(first_token + i % BLOCK_TOKENS, count - 1u);
                load_x(part * PASS_BLOCKS + block, i % BLOCK_TOKENS, x_base(t), pass_block + block);
            } else {
                let j = i - PASS_BLOCKS * BLOCK_TOKENS;
                let block = j / BLOCK_ROWS;
                load_weights(part * PASS_BLOCKS + block, first_output, j % BLOCK_ROWS, pass_block + block);
            }
        }
        workgroupBarrier();
        for (var block = 0u; block < PASS_BLOCKS; block++) {
            let at = part * PASS_BLOCKS + block;
            let codes_0 = tile_codes(at, row_quad);
            let codes_1 = tile_codes(at, ROW_QUADS + row_quad);
            let codes_2 = tile_codes(at, 2u * ROW_QUADS + row_quad);
            let codes_3 = tile_codes(at, 3u * ROW_QUADS + row_quad);
            let scale_0 = weight_scales[at * BLOCK_ROWS + row_quad];
            let scale_1 = weight_scales[at * BLOCK_ROWS + ROW_QUADS + row_quad];
            let scale_2 = weight_scales[at * BLOCK_ROWS + 2u * ROW_QUADS + row_quad];
            let scale_3 = weight_scales[at * BLOCK_ROWS + 3u * ROW_QUADS + row_quad];
            for (var i = 0u; i < THREAD_TOKENS; i++) {
                let place = token_part * THREAD_TOKENS + i;
                let low = x_tile[at * 2u * BLOCK_TOKENS + place];
                let high = x_tile[(at * 2u + 1u) * BLOCK_TOKENS + place];
                let x_scale = x_scales[at * BLOCK_TOKENS + place];
                products[i] += x_scale.x * vec4f(
                    weighed(dot32(codes_0, low, high), x_scale.y, scale_0),
                    weighed(dot32(codes_1, low, high), x_scale.y, scale_1),
                    weighed(dot32(codes_2, low, high), x_scale.y, scale_2),
                    weighed(dot32(codes_3, low, high), x_scale.y, scale_3),
                );
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
