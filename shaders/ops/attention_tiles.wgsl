// Attention by tiles: a workgroup takes TILE_TOKENS tokens times TILE_HEADS query heads that share a
// key head (its rows), and walks over the keys tile by tile with an online softmax:
//   1. every thread scores some keys for all rows (a key is read once for all of them); row maxima
//      are kept with atomics in workgroup memory;
//   2. scores become weights in workgroup memory;
//   3. every thread adds weights * values for its units of the output, over its part of the keys.
// Two barriers a tile. With SPLITS > 1 the keys are shared by that many workgroups.
// Decode has one token per tile; in prefill a tile may span several slots, done one after another.
// Header: Structure and Tuning of kernels/attention.py. Needs: attention/{quad,tile}, which supply
// attend(), and what these need: lib/step, lib/rows, lib/kv_cache, lib/kv_read, a tokens role, a KV
// role, attention/{score,length*,sinks*}, attention/{out,partials}.
const HEAD_TILES: u32 = HEADS / TILE_HEADS;
const_assert HEADS / KV_HEADS % TILE_HEADS == 0u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = workgroup.y * workgroups.x + workgroup.x;
    let split = index % SPLITS;
    let first_head = index / SPLITS % HEAD_TILES * TILE_HEADS;
    let kv_head = first_head / (HEADS / KV_HEADS);
    let first_token = index / SPLITS / HEAD_TILES * TILE_TOKENS;
    let end_token = min(first_token + TILE_TOKENS, row_count());

    var begin = first_token;
    while (begin < end_token) {
        // the tokens begin .. stop have one slot
        let slot = token_slot(begin);
        var stop = begin + 1u;
        while (stop < end_token && token_slot(stop) == slot) {
            stop += 1u;
        }
        attend(slot, begin, stop, first_token, first_head, kv_head, split, thread);
        begin = stop;
    }
}

// Order-preserving map of f32 to u32, for atomicMax.
fn ordered(value: f32) -> u32 {
    let bits = bitcast<u32>(value);
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn unordered(code: u32) -> f32 {
    return bitcast<f32>(select(~code, code & 0x7fffffffu, code >= 0x80000000u));
}
