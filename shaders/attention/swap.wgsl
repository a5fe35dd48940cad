// Attention role for ops/attention_tiles, made for SwiftShader, where a load costs 50 cycles whatever it reads (one from an
// array at an index that is not constant likewise), and a swap between lanes 2: four lanes share a tile. Each has LANE_ROWS
// rows (a row is a query head of a token) of its own, so that the softmax needs neither barrier nor exchange; of a key or a
// value each lane loads a quarter, and the lanes swap the quarters. A piece is 16 columns of a lane's rows: column j of a
// row's matrix holds, for lane l, the unit 4 * piece + (l ^ j). Rows lie in private memory, at constant indices where it counts.
// Header: Structure and Tuning of kernels/attention.py; LANE_ROWS, at most 4. Needs: attention/out or partials.
const KEY_PIECES: u32 = HEAD_SIZE / 16u;
const VALUE_PIECES: u32 = VALUE_SIZE / 16u;
const LAST_KEY_PIECE: u32 = KEY_PIECES - 1u;
const LAST_VALUE_PIECE: u32 = VALUE_PIECES - 1u;
const TILE_KEYS: u32 = 4u;
const_assert HEAD_SIZE % 16u == 0u;
const_assert VALUE_SIZE % 16u == 0u;
const_assert HEAD_SIZE <= 128u;
const_assert VALUE_SIZE <= 128u;
const_assert WORKGROUP == 4u;
const_assert LANE_ROWS <= 4u;
const_assert TILE_TOKENS * TILE_HEADS <= 4u * LANE_ROWS;

alias Piece = array<mat4x4f, 4>;
var<private> queries: array<Piece, KEY_PIECES>;
var<private> sums: array<Piece, VALUE_PIECES>;

// Weights of four keys in turn, and their values: weights per row of the lane, values 16 columns.
struct Weights {
    k0: vec4f,
    k1: vec4f,
    k2: vec4f,
    k3: vec4f,
}

struct Values4 {
    k0: mat4x4f,
    k1: mat4x4f,
    k2: mat4x4f,
    k3: mat4x4f,
}

fn swapped(unit: vec4f) -> mat4x4f {
    return mat4x4f(unit, quadSwapX(unit), quadSwapY(unit), quadSwapDiagonal(unit));
}

fn product(a: mat4x4f, b: mat4x4f) -> f32 {
    return dot(a[0], b[0]) + dot(a[1], b[1]) + dot(a[2], b[2]) + dot(a[3], b[3]);
}

fn products(place: u32, kv_head: u32, unit: u32, rows: Piece) -> vec4f {
    let key = swapped(key_unit(place, kv_head, unit));
    var found = vec4f(product(key, rows[0]), 0.0, 0.0, 0.0);
    if (LANE_ROWS > 1u) {
        found.y = product(key, rows[1]);
    }
    if (LANE_ROWS > 2u) {
        found.z = product(key, rows[2]);
    }
    if (LANE_ROWS > 3u) {
        found.w = product(key, rows[3]);
    }
    return found;
}

fn scores(place: u32, kv_head: u32, lane: u32) -> vec4f {
    var found = products(place, kv_head, lane, queries[0]);
    if (KEY_PIECES > 1u) {
        found += products(place, kv_head, 4u + lane, queries[min(1u, LAST_KEY_PIECE)]);
    }
    if (KEY_PIECES > 2u) {
        found += products(place, kv_head, 8u + lane, queries[min(2u, LAST_KEY_PIECE)]);
    }
    if (KEY_PIECES > 3u) {
        found += products(place, kv_head, 12u + lane, queries[min(3u, LAST_KEY_PIECE)]);
    }
    if (KEY_PIECES > 4u) {
        found += products(place, kv_head, 16u + lane, queries[min(4u, LAST_KEY_PIECE)]);
    }
    if (KEY_PIECES > 5u) {
        found += products(place, kv_head, 20u + lane, queries[min(5u, LAST_KEY_PIECE)]);
    }
    if (KEY_PIECES > 6u) {
        found += products(place, kv_head, 24u + lane, queries[min(6u, LAST_KEY_PIECE)]);
    }
    if (KEY_PIECES > 7u) {
        found += products(place, kv_head, 28u + lane, queries[min(7u, LAST_KEY_PIECE)]);
    }
    return found;
}

fn masked(scores: vec4f, key: u32, firsts: vec4u, ends: vec4u) -> vec4f {
    let seen = (vec4u(key) >= firsts) & (vec4u(key) < ends);
    return select(vec4f(LOWEST), capped4(scores), seen);
}

fn weights(scores: vec4f, highest: vec4f) -> vec4f {
    return select(vec4f(0.0), exp(scores - highest), scores > vec4f(LOWEST));
}

fn values4(places: vec4u, kv_head: u32, unit: u32) -> Values4 {
    return Values4(
        swapped(value_unit(places.x, kv_head, unit)),
        swapped(value_unit(places.y, kv_head, unit)),
        swapped(value_unit(places.z, kv_head, unit)),
        swapped(value_unit(places.w, kv_head, unit)),
    );
}

fn added(sum: mat4x4f, shrink: f32, w: vec4f, v: Values4) -> mat4x4f {
    return sum * shrink + w.x * v.k0 + w.y * v.k1 + w.z * v.k2 + w.w * v.k3;
}

fn added_rows(rows: Piece, shrink: vec4f, w: Weights, v: Values4) -> Piece {
    var found = rows;
    found[0] = added(rows[0], shrink.x, vec4f(w.k0.x, w.k1.x, w.k2.x, w.k3.x), v);
    if (LANE_ROWS > 1u) {
        found[1] = added(rows[1], shrink.y, vec4f(w.k0.y, w.k1.y, w.k2.y, w.k3.y), v);
    }
    if (LANE_ROWS > 2u) {
        found[2] = added(rows[2], shrink.z, vec4f(w.k0.z, w.k1.z, w.k2.z, w.k3.z), v);
    }
    if (LANE_ROWS > 3u) {
        found[3] = added(rows[3], shrink.w, vec4f(w.k0.w, w.k1.w, w.k2.w, w.k3.w), v);
    }
    return found;
}

fn add_values(shrink: vec4f, w: Weights, places: vec4u, kv_head: u32, lane: u32) {
    sums[0] = added_rows(sums[0], shrink, w, values4(places, kv_head, lane));
    if (VALUE_PIECES > 1u) {
        sums[min(1u, LAST_VALUE_PIECE)] = added_rows(sums[min(1u, LAST_VALUE_PIECE)], shrink, w, values4(places, kv_head, 4u + lane));
    }
    if (VALUE_PIECES > 2u) {
        sums[min(2u, LAST_VALUE_PIECE)] = added_rows(sums[min(2u, LAST_VALUE_PIECE)], shrink, w, values4(places, kv_head, 8u + lane));
    }
    if (VALUE_PIECES > 3u) {
        sums[min(3u, LAST_VALUE_PIECE)] = added_rows(sums[min(3u, LAST_VALUE_PIECE)], shrink, w, values4(places, kv_head, 12u + lane));
    }
    if (VALUE_PIECES > 4u) {
        sums[min(4u, LAST_VALUE_PIECE)] = added_rows(sums[min(4u, LAST_VALUE_PIECE)], shrink, w, values4(places, kv_head, 16u + lane));
    }
    if (VALUE_PIECES > 5u) {
        sums[min(5u, LAST_VALUE_PIECE)] = added_rows(sums[min(5u, LAST_VALUE_PIECE)], shrink, w, values4(places, kv_head, 20u + lane));
    }
    if (VALUE_PIECES > 6u) {
        sums[min(6u, LAST_VALUE_PIECE)] = added_rows(sums[min(6u, LAST_VALUE_PIECE)], shrink, w, values4(places, kv_head, 24u + lane));
    }
    if (VALUE_PIECES > 7u) {
        sums[min(7u, LAST_VALUE_PIECE)] = added_rows(sums[min(7u, LAST_VALUE_PIECE)], shrink, w, values4(places, kv_head, 28u + lane));
    }
}

fn attend(
    slot: u32,
    begin: u32,
    stop: u32,
    first_token: u32,
    first_head: u32,
    kv_head: u32,
    split: u32,
    thread: u32,
) {
    let lane = thread % 4u;
    // keys that any of the rows sees, and this split's share of them: the same for all lanes
    var low = 0xffffffffu;
    var high = 0u;
    for (var token = begin; token < stop; token++) {
        let position = token_position(token);
        low = min(low, first_key(position));
        high = max(high, end_key(position, slot));
    }
    let tiles = (high - min(low, high) + TILE_KEYS - 1u) / TILE_KEYS;
    let share = (tiles + SPLITS - 1u) / SPLITS * TILE_KEYS;
    let first = low + split * share;
    let end = min(high, first + share);

    var firsts = vec4u(0u);
    var ends = vec4u(0u);
    for (var i = 0u; i < LANE_ROWS; i++) {
        let row = lane + 4u * i;
        let token = first_token + row / TILE_HEADS;
        if (row < TILE_TOKENS * TILE_HEADS && token >= begin && token < stop) {
            let position = token_position(token);
            firsts[i] = first_key(position);
            ends[i] = min(end, end_key(position, slot));
        }
        for (var unit = 0u; unit < 4u * KEY_PIECES; unit++) {
            let found = query_unit(min(token, stop - 1u), first_head + row % TILE_HEADS, unit ^ lane);
            queries[unit / 4u][i][unit % 4u] = found;
        }
        for (var piece = 0u; piece < VALUE_PIECES; piece++) {
            sums[piece][i] = mat4x4f();
        }
    }

    var highest = vec4f(LOWEST);
    var totals = vec4f(0.0);
    for (var key = first; key < end; key += TILE_KEYS) {
        // those beyond the end read the last one's memory
        let last = end - 1u;
        let places = vec4u(
            cache_row(slot, key),
            cache_row(slot, min(key + 1u, last)),
            cache_row(slot, min(key + 2u, last)),
            cache_row(slot, min(key + 3u, last)),
        );
        let s0 = masked(scores(places.x, kv_head, lane), key, firsts, ends);
        let s1 = masked(scores(places.y, kv_head, lane), key + 1u, firsts, ends);
        let s2 = masked(scores(places.z, kv_head, lane), key + 2u, firsts, ends);
        let s3 = masked(scores(places.w, kv_head, lane), key + 3u, firsts, ends);
        let higher = max(highest, max(max(s0, s1), max(s2, s3)));
        let shrink = exp(highest - higher);
        highest = higher;
        let w = Weights(weights(s0, higher), weights(s1, higher), weights(s2, higher), weights(s3, higher));
        totals = totals * shrink + w.k0 + w.k1 + w.k2 + w.k3;
        add_values(shrink, w, places, kv_head, lane);
    }

    for (var i = 0u; i < LANE_ROWS; i++) {
        let row = lane + 4u * i;
        let token = first_token + row / TILE_HEADS;
        let head = first_head + row % TILE_HEADS;
        if (row < TILE_TOKENS * TILE_HEADS && token >= begin && token < stop) {
            var top = highest[i];
            var total = totals[i];
            var shrink = 1.0;
            if (SINKS && split == 0u) {
                let sink = sink_logit(head);
                let higher = max(top, sink);
                shrink = exp(top - higher);
                total = total * shrink + exp(sink - higher);
                top = higher;
            }
            for (var unit = 0u; unit < 4u * VALUE_PIECES; unit++) {
                put(token, head, split, unit ^ lane, shrink * sums[unit / 4u][i][unit % 4u], top, total);
            }
        }
    }
}
