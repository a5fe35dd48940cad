// KvWrite: this step's keys and values into the cache. One thread per STORE_UNITS * 4 elements.
// Header: Structure and Tuning of kernels/kv_write.py. Needs: lib/step, lib/rows, lib/kv_cache,
// a tokens role, kv/<kind>_store.
const PIECE: u32 = 4u * STORE_UNITS;
const KEY_PIECES: u32 = (KEY_WIDTH + PIECE - 1u) / PIECE;
const VALUE_PIECES: u32 = (VALUE_WIDTH + PIECE - 1u) / PIECE;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP + thread;
    let token = index / (KEY_PIECES + VALUE_PIECES);
    if (token >= row_count()) {
        return;
    }
    let piece = index % (KEY_PIECES + VALUE_PIECES);
    let row = cache_row(token_slot(token), token_position(token));
    var units: array<vec4f, STORE_UNITS>;
    if (piece < KEY_PIECES) {
        let base = token * K_STRIDE + K_START;
        for (var i = 0u; i < PIECE; i++) {
            let column = piece * PIECE + i;
            if (column < KEY_WIDTH) {
                units[i / 4u][i % 4u] = k[base + column];
            }
        }
        store_keys(row, piece, units);
    } else {
        let base = token * V_STRIDE + V_START;
        for (var i = 0u; i < PIECE; i++) {
            let column = (piece - KEY_PIECES) * PIECE + i;
            if (column < VALUE_WIDTH) {
                units[i / 4u][i % 4u] = v[base + column];
            }
        }
        store_values(row, piece - KEY_PIECES, units);
    }
}
