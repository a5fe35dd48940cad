// A thread's tile of ROWS weight rows (4 or 8; where GATED gate and up rows alternate) by TILE tokens (1, 2, 4 or 8), everything
// in named vectors: its rows, the prologues of its tokens, and what becomes of its sums. Of matvec_wide and matvec_swap.
// Header: ROWS, TILE, OUTPUTS. Roles: tokens_dense, prologue, stage_*, epilogue.
const OUTPUTS_PER_THREAD: u32 = ROWS / PARTS;

// Numbers of four rows, or of two pairs of gate and up rows.
struct Sums {
    a: vec4f,
    b: vec4f,  // rows 4 to 7, where ROWS is 8
}

// Weight row of this thread's i-th row, from output n on. Rows beyond the last are computed twice, not guarded.
fn thread_row(n: u32, i: u32) -> u32 {
    return min(n + i / PARTS, OUTPUTS - 1u) + i % PARTS * UP_ROWS;
}

fn store_sums(t: u32, n: u32, products: Sums) {
    store_quad(t, n, products.a);
    if (ROWS > 4u) {
        store_quad(t, n + 4u / PARTS, products.b);
    }
}

// Has the workgroup prepare its tokens; ``keeps``: the sums of a prologue are left where the graph wants them.
fn prologues(
    lane: u32, first: u32, count: u32, keeps: bool,
    base_0: u32, base_1: u32, base_2: u32, base_3: u32, base_4: u32, base_5: u32, base_6: u32, base_7: u32,
) {
    prologue(lane, 0u, base_0, keeps);
    if (TILE > 1u) {
        prologue(lane, 1u, base_1, keeps && first + 1u < count);
    }
    if (TILE > 2u) {
        prologue(lane, 2u, base_2, keeps && first + 2u < count);
        prologue(lane, 3u, base_3, keeps && first + 3u < count);
    }
    if (TILE > 4u) {
        prologue(lane, 4u, base_4, keeps && first + 4u < count);
        prologue(lane, 5u, base_5, keeps && first + 5u < count);
        prologue(lane, 6u, base_6, keeps && first + 6u < count);
        prologue(lane, 7u, base_7, keeps && first + 7u < count);
    }
    stage_done();
}

fn store_tile(
    first: u32, count: u32, n: u32,
    products_0: Sums, products_1: Sums, products_2: Sums, products_3: Sums,
    products_4: Sums, products_5: Sums, products_6: Sums, products_7: Sums,
) {
    store_sums(first, n, products_0);
    if (TILE > 1u) {
        if (first + 1u < count) {
            store_sums(first + 1u, n, products_1);
        }
    }
    if (TILE > 2u) {
        if (first + 2u < count) {
            store_sums(first + 2u, n, products_2);
        }
        if (first + 3u < count) {
            store_sums(first + 3u, n, products_3);
        }
    }
    if (TILE > 4u) {
        if (first + 4u < count) {
            store_sums(first + 4u, n, products_4);
        }
        if (first + 5u < count) {
            store_sums(first + 5u, n, products_5);
        }
        if (first + 6u < count) {
            store_sums(first + 6u, n, products_6);
        }
        if (first + 7u < count) {
            store_sums(first + 7u, n, products_7);
        }
    }
}
