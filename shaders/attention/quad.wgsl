// Attention role for ops/attention_tiles: at most four rows, and four keys per thread, written out
// as vectors and matrices. Nothing is held in indexed private arrays, which software adapters keep
// in memory.
const TILE_KEYS: u32 = 4u * WORKGROUP;
const PARTS: u32 = WORKGROUP / VALUE_UNITS;
const_assert TILE_TOKENS * TILE_HEADS <= 4u;
const_assert PARTS >= 1u;

// Column r of queries[unit] is the unit of row r.
var<workgroup> queries: array<mat4x4f, KEY_UNITS>;
// While keys are left: the four rows' weights of each key. At the end: each thread's four sums.
var<workgroup> weights: array<vec4f, TILE_KEYS>;
var<workgroup> maxima: array<atomic<u32>, 4>;
var<workgroup> totals_of: array<vec4f, WORKGROUP>;

fn masked(scores: vec4f, key: u32, firsts: vec4u, ends: vec4u) -> vec4f {
    let seen = (vec4u(key) >= firsts) & (vec4u(key) < ends);
    return select(vec4f(LOWEST), capped4(scores), seen);
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
    // keys that any of the rows sees, and this split's share of them, in whole tiles
    var low = 0xffffffffu;
    var high = 0u;
    var firsts = vec4u(0u);
    var ends = vec4u(0u);
    for (var row = 0u; row < TILE_TOKENS * TILE_HEADS; row++) {
        let token = first_token + row / TILE_HEADS;
        if (token >= begin && token < stop) {
            let position = token_position(token);
            firsts[row] = first_key(position);
            ends[row] = end_key(position, slot);
            low = min(low, first_key(position));
            high = max(high, end_key(position, slot));
        }
    }
    let tiles = (high - min(low, high) + TILE_KEYS - 1u) / TILE_KEYS;
    let share = (tiles + SPLITS - 1u) / SPLITS * TILE_KEYS;
    let first = low + split * share;
    let end = min(high, first + share);
    ends = min(ends, vec4u(end));

    workgroupBarrier();
    for (var i = thread; i < 4u * KEY_UNITS; i += WORKGROUP) {
        let row = i / KEY_UNITS;
        let token = first_token + row / TILE_HEADS;
        var unit = vec4f(0.0);
        if (row < TILE_TOKENS * TILE_HEADS && token >= begin && token < stop) {
            unit = query_unit(token, first_head + row % TILE_HEADS, i % KEY_UNITS);
        }
        queries[i % KEY_UNITS][row] = unit;
    }
    if (thread == 0u) {
        for (var row = 0u; row < 4u; row++) {
            atomicStore(&maxima[row], ordered(LOWEST));
        }
    }
    workgroupBarrier();

    let part = thread / VALUE_UNITS;
    let value_of = thread % VALUE_UNITS;
    var sum0 = vec4f(0.0);
    var sum1 = vec4f(0.0);
    var sum2 = vec4f(0.0);
    var sum3 = vec4f(0.0);
    var highest = vec4f(LOWEST);
    var totals = vec4f(0.0);
    for (var tile = first; tile < end; tile += TILE_KEYS) {
        // four keys, a quarter of the tile apart; those beyond the end read the last one's memory
        let key = tile + thread;
        let last = end - 1u;
        let place0 = cache_row(slot, min(key, last));
        let place1 = cache_row(slot, min(key + WORKGROUP, last));
        let place2 = cache_row(slot, min(key + 2u * WORKGROUP, last));
        let place3 = cache_row(slot, min(key + 3u * WORKGROUP, last));
        var score0 = vec4f(0.0);
        var score1 = vec4f(0.0);
        var score2 = vec4f(0.0);
        var score3 = vec4f(0.0);
        for (var unit = 0u; unit < KEY_UNITS; unit++) {
            let rows = queries[unit];
            score0 += key_unit(place0, kv_head, unit) * rows;
            score1 += key_unit(place1, kv_head, unit) * rows;
            score2 += key_unit(place2, kv_head, unit) * rows;
            score3 += key_unit(place3, kv_head, unit) * rows;
        }
        score0 = masked(score0, key, firsts, ends);
        score1 = masked(score1, key + WORKGROUP, firsts, ends);
        score2 = masked(score2, key + 2u * WORKGROUP, firsts, ends);
        score3 = masked(score3, key + 3u * WORKGROUP, firsts, ends);
        let best = max(max(score0, score1), max(score2, score3));
        atomicMax(&maxima[0], ordered(best.x));
        atomicMax(&maxima[1], ordered(best.y));
        atomicMax(&maxima[2], ordered(best.z));
        atomicMax(&maxima[3], ordered(best.w));
        workgroupBarrier();
        let higher = vec4f(
            unordered(atomicLoad(&maxima[0])),
            unordered(atomicLoad(&maxima[1])),
            unordered(atomicLoad(&maxima[2])),
            unordered(atomicLoad(&maxima[3])),
        );
        let shrink = exp(highest - higher);
        highest = higher;
        let lowest = vec4f(LOWEST);
        score0 = select(vec4f(0.0), exp(score0 - higher), score0 > lowest);
        score1 = select(vec4f(0.0), exp(score1 - higher), score1 > lowest);
        score2 = select(vec4f(0.0), exp(score2 - higher), score2 > lowest);
        score3 = select(vec4f(0.0), exp(score3 - higher), score3 > lowest);
        weights[thread] = score0;
        weights[thread + WORKGROUP] = score1;
        weights[thread + 2u * WORKGROUP] = score2;
        weights[thread + 3u * WORKGROUP] = score3;
        totals = totals * shrink + score0 + score1 + score2 + score3;
        sum0 *= shrink.x;
        sum1 *= shrink.y;
        sum2 *= shrink.z;
        sum3 *= shrink.w;
        workgroupBarrier();
        if (part < PARTS) {
            let count = min(TILE_KEYS, end - tile);
            for (var i = part; i < count; i += PARTS) {
                let four = value_unit(cache_row(slot, tile + i), kv_head, value_of);
                let weight = weights[i];
                sum0 += weight.x * four;
                sum1 += weight.y * four;
                sum2 += weight.z * four;
                sum3 += weight.w * four;
            }
        }
    }

    workgroupBarrier();
    totals_of[thread] = totals;
    weights[thread] = sum0;
    weights[thread + WORKGROUP] = sum1;
    weights[thread + 2u * WORKGROUP] = sum2;
    weights[thread + 3u * WORKGROUP] = sum3;
    workgroupBarrier();
    if (part > 0u) {
        return;
    }
    var total = vec4f(0.0);
    for (var i = 0u; i < WORKGROUP; i++) {
        total += totals_of[i];
    }
    for (var row = 0u; row < TILE_TOKENS * TILE_HEADS; row++) {
        let token = first_token + row / TILE_HEADS;
        let head = first_head + row % TILE_HEADS;
        if (token >= begin && token < stop) {
            var top = highest[row];
            var share_of = total[row];
            var sum = vec4f(0.0);
            for (var i = 0u; i < PARTS; i++) {
                sum += weights[row * WORKGROUP + i * VALUE_UNITS + value_of];
            }
            if (SINKS && split == 0u) {
                let sink = sink_logit(head);
                let higher = max(top, sink);
                sum *= exp(top - higher);
                share_of = share_of * exp(top - higher) + exp(sink - higher);
                top = higher;
            }
            put(token, head, split, value_of, sum, top, share_of);
        }
    }
}
