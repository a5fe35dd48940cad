// Attention, plain: one thread per token, head and CHUNK units of the output, online softmax over
// all keys the token sees. The reference of the other attention kernels.
// Header: Structure and Tuning of kernels/attention.py. Needs: lib/step, lib/rows, lib/kv_cache,
// lib/kv_read, attention/{score,length*,sinks*}, a tokens role, a KV role.
const CHUNKS: u32 = (VALUE_UNITS + CHUNK - 1u) / CHUNK;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let index = (workgroup.y * workgroups.x + workgroup.x) * WORKGROUP + thread;
    let token = index / (HEADS * CHUNKS);
    if (token >= row_count()) {
        return;
    }
    let head = index / CHUNKS % HEADS;
    let kv_head = head / (HEADS / KV_HEADS);
    let first_unit = index % CHUNKS * CHUNK;
    let units = min(CHUNK, VALUE_UNITS - first_unit);
    let position = token_position(token);
    let slot = token_slot(token);

    var sum: array<vec4f, CHUNK>;
    var highest = sink_logit(head);
    var total = 0.0;
    if (SINKS) {
        total = 1.0;
    }
    let end = end_key(position, slot);
    for (var key = first_key(position); key < end; key++) {
        let row = cache_row(slot, key);
        var products = vec4f(0.0);
        for (var unit = 0u; unit < KEY_UNITS; unit++) {
            products += query_unit(token, head, unit) * key_unit(row, kv_head, unit);
        }
        let score = capped(dot(products, vec4f(1.0)));
        let higher = max(highest, score);
        let shrink = exp(highest - higher);
        let weight = exp(score - higher);
        highest = higher;
        total = total * shrink + weight;
        for (var unit = 0u; unit < units; unit++) {
            sum[unit] = sum[unit] * shrink
                + weight * value_unit(row, kv_head, first_unit + unit);
        }
    }
    let base = token * OUT_STRIDE + OUT_START + head * VALUE_SIZE;
    for (var unit = 0u; unit < units; unit++) {
        let result = sum[unit] / max(total, 1e-37);
        for (var i = 0u; i < 4u; i++) {
            let element = (first_unit + unit) * 4u + i;
            if (element < VALUE_SIZE) {
                out[base + element] = result[i];
            }
        }
    }
}
