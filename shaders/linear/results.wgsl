// What becomes of the sums of lane groups, each of ROWS outputs by TILE tokens: one thread per result. Of matvec and
// matvec_rounded. Header: WORKGROUP, LANES, ROWS, TILE, OUTPUTS. Roles: reduce_*, epilogue.
const LANE_GROUPS: u32 = WORKGROUP / LANES;
const PER_WORKGROUP: u32 = LANE_GROUPS * ROWS;
const RESULTS: u32 = PER_WORKGROUP * TILE;
const_assert WORKGROUP % LANES == 0u;

// Result i is output i / TILE % ROWS of lane group i / TILE / ROWS, token i % TILE.
fn store_results(thread: u32, first: u32, count: u32, first_output: u32) {
    for (var i = thread; i < RESULTS; i += WORKGROUP) {
        let t = i % TILE;
        let r = i / TILE % ROWS;
        let source = i / TILE / ROWS;
        let n = first_output + source * ROWS + r;
        if (n < OUTPUTS && first + t < count) {
            let product = take_sum(source, r * PARTS * TILE + t);
            var up = 0.0;
            if (GATED) {
                up = take_sum(source, (r * PARTS + PARTS - 1u) * TILE + t);
            }
            store(first + t, n, product, up);
        }
    }
}
