// QkvPrepare: norms of q and k (of a head, or of Q_NORM_HEADS or K_NORM_HEADS heads together), rotation of both, keys
// and values into the cache, q to `out`.
// LANES threads share one head of one token. Header: Structure and Tuning of
// kernels/qkv_prepare.py. Needs: lib/step, lib/rows, lib/kv_cache, a tokens role, a lanes role,
// kv/<kind>_store, qkv/{shared,separate}, qkv/{q,k}_norm*, qkv/rope*.
const PIECE: u32 = 4u * STORE_UNITS;
const_assert HEAD_SIZE % PIECE == 0u && VALUE_SIZE % PIECE == 0u;
const PARTS: u32 = HEADS + 2u * KV_HEADS;

// Element `column` of the queries (part < HEADS) or of the keys as they came.
fn given(token: u32, part: u32, column: u32) -> f32 {
    if (part < HEADS) {
        return q_at(token, column);
    }
    return k_at(token, column);
}

// Element of a query head (part < HEADS) or key head, normed but not rotated. stats = (mean, 1 / deviation)
fn normed(token: u32, part: u32, element: u32, stats: vec2f) -> f32 {
    if (part < HEADS) {
        let column = part * HEAD_SIZE + element;
        return (q_at(token, column) - stats.x) * q_factor(column, stats.y);
    }
    let column = (part - HEADS) * HEAD_SIZE + element;
    return (k_at(token, column) - stats.x) * k_factor(column, stats.y);
}

fn prepared(token: u32, position: u32, part: u32, element: u32, stats: vec2f) -> f32 {
    let own = normed(token, part, element, stats);
    if (element >= ROTATED) {
        return own;
    }
    let partner = normed(token, part, rope_partner(element), stats);
    return rope_rotate(position, element, own, partner);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) workgroup: vec3u,
    @builtin(num_workgroups) workgroups: vec3u,
    @builtin(local_invocation_index) thread: u32,
) {
    let tile = (workgroup.y * workgroups.x + workgroup.x) * (WORKGROUP / LANES);
    let index = tile + thread / LANES;
    let lane = thread % LANES;
    let token = index / PARTS;
    let part = index % PARTS;
    let inside = token < row_count();

    var stats = vec2f(0.0, 1.0);
    if (Q_NORM || K_NORM) {
        let is_query = part < HEADS;
        let count = HEAD_SIZE * select(K_NORM_HEADS, Q_NORM_HEADS, is_query);
        let first = select(part - HEADS, part, is_query) * HEAD_SIZE / count * count;
        let normal = inside && part < HEADS + KV_HEADS;
        if (Q_CENTER || K_CENTER) {
            var sum = 0.0;
            if (normal) {
                for (var i = lane; i < count; i += LANES) {
                    sum += given(token, part, first + i);
                }
            }
            let mean = lanes_sum(sum, thread) / f32(count);
            stats.x = select(0.0, mean, select(K_CENTER, Q_CENTER, is_query));
        }
        var squares = 0.0;
        if (normal) {
            for (var i = lane; i < count; i += LANES) {
                let value = given(token, part, first + i) - stats.x;
                squares += value * value;
            }
        }
        let epsilon = select(K_EPSILON, Q_EPSILON, is_query);
        stats.y = 1.0 / sqrt(lanes_sum(squares, thread) / f32(count) + epsilon);
    }
    if (!inside) {
        return;
    }
    let position = token_position(token);
    if (part < HEADS) {
        let base = token * OUT_STRIDE + OUT_START + part * HEAD_SIZE;
        for (var i = lane; i < HEAD_SIZE; i += LANES) {
            out[base + i] = prepared(token, position, part, i, stats);
        }
        return;
    }
    let row = cache_row(token_slot(token), position);
    var units: array<vec4f, STORE_UNITS>;
    if (part < HEADS + KV_HEADS) {
        let first = (part - HEADS) * (HEAD_SIZE / PIECE);
        for (var piece = lane; piece < HEAD_SIZE / PIECE; piece += LANES) {
            for (var i = 0u; i < PIECE; i++) {
                units[i / 4u][i % 4u] = prepared(token, position, part, piece * PIECE + i, stats);
            }
            store_keys(row, first + piece, units);
        }
    } else {
        let head = part - HEADS - KV_HEADS;
        for (var piece = lane; piece < VALUE_SIZE / PIECE; piece += LANES) {
            for (var i = 0u; i < PIECE; i++) {
                units[i / 4u][i % 4u] = v_at(token, head * VALUE_SIZE + piece * PIECE + i);
            }
            store_values(row, head * (VALUE_SIZE / PIECE) + piece, units);
        }
    }
}
