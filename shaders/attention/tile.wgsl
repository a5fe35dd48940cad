// Attention role for ops/attention_tiles: any number of rows and KEYS_PER_THREAD keys per thread, in
// arrays, for compilers that unroll loops.
const ROWS: u32 = TILE_TOKENS * TILE_HEADS;
const TILE_KEYS: u32 = WORKGROUP * KEYS_PER_THREAD;
const UNIT_THREADS: u32 = min(WORKGROUP, VALUE_UNITS);
const UNITS_PER_THREAD: u32 = (VALUE_UNITS + UNIT_THREADS - 1u) / UNIT_THREADS;
const PARTS: u32 = WORKGROUP / UNIT_THREADS;

var<workgroup> queries: array<vec4f, ROWS * KEY_UNITS>;
var<workgroup> weights: array<f32, ROWS * TILE_KEYS>;
var<workgroup> maxima: array<atomic<u32>, ROWS>;
var<workgroup> parts: array<vec4f, WORKGROUP>;

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
    var firsts: array<u32, TILE_TOKENS>;
    var ends: array<u32, TILE_TOKENS>;
    for (var i = 0u; i < TILE_TOKENS; i++) {
        let token = first_token + i;
        if (token >= begin && token < stop) {
            let position = token_position(token);
            firsts[i] = first_key(position);
            ends[i] = end_key(position, slot);
            low = min(low, firsts[i]);
            high = max(high, ends[i]);
        }
    }
    let tiles = (high - min(low, high) + TILE_KEYS - 1u) / TILE_KEYS;
    let share = (tiles + SPLITS - 1u) / SPLITS * TILE_KEYS;
    let first = low + split * share;
    let end = min(high, first + share);

    workgroupBarrier();
    for (var i = thread; i < ROWS * KEY_UNITS; i += WORKGROUP) {
        let row = i / KEY_UNITS;
        let token = first_token + row / TILE_HEADS;
        if (token >= begin && token < stop) {
            queries[i] = query_unit(token, first_head + row % TILE_HEADS, i % KEY_UNITS);
        }
    }
    for (var row = thread; row < ROWS; row += WORKGROUP) {
        atomicStore(&maxima[row], ordered(LOWEST));
    }
    workgroupBarrier();

    let part = thread / UNIT_THREADS;
    let first_unit = thread % UNIT_THREADS;
    var sums: array<vec4f, ROWS * UNITS_PER_THREAD>;
    var highest: array<f32, ROWS>;
    var totals: array<f32, ROWS>;
    for (var row = 0u; row < ROWS; row++) {
        highest[row] = LOWEST;
    }
    for (var tile = first; tile < end; tile += TILE_KEYS) {
        var scores = array<f32, ROWS * KEYS_PER_THREAD>(); // zero again: naga hoists it
        for (var j = 0u; j < KEYS_PER_THREAD; j++) {
            let key = tile + j * WORKGROUP + thread;
            if (key < end) {
                let place = cache_row(slot, key);
                for (var unit = 0u; unit < KEY_UNITS; unit++) {
                    let four = key_unit(place, kv_head, unit);
                    for (var row = 0u; row < ROWS; row++) {
                        scores[j * ROWS + row] += dot(queries[row * KEY_UNITS + unit], four);
                    }
                }
            }
            for (var row = 0u; row < ROWS; row++) {
                let i = row / TILE_HEADS;
                var score = LOWEST;
                if (key >= firsts[i] && key < min(ends[i], end)) {
                    score = capped(scores[j * ROWS + row]);
                }
                scores[j * ROWS + row] = score;
            }
        }
        for (var row = 0u; row < ROWS; row++) {
            var best = scores[row];
            for (var j = 1u; j < KEYS_PER_THREAD; j++) {
                best = max(best, scores[j * ROWS + row]);
            }
            atomicMax(&maxima[row], ordered(best));
        }
        workgroupBarrier();
        for (var row = 0u; row < ROWS; row++) {
            let higher = unordered(atomicLoad(&maxima[row]));
            let shrink = exp(highest[row] - higher);
            highest[row] = higher;
            totals[row] *= shrink;
            for (var i = 0u; i < UNITS_PER_THREAD; i++) {
                sums[row * UNITS_PER_THREAD + i] *= shrink;
            }
            for (var j = 0u; j < KEYS_PER_THREAD; j++) {
                let score = scores[j * ROWS + row];
                let weight = select(0.0, exp(score - higher), score > LOWEST);
                totals[row] += weight;
                weights[row * TILE_KEYS + j * WORKGROUP + thread] = weight;
            }
        }
        workgroupBarrier();
        if (part < PARTS) {
            let count = min(TILE_KEYS, end - tile);
            for (var key = part; key < count; key += PARTS) {
                let place = cache_row(slot, tile + key);
                for (var i = 0u; i < UNITS_PER_THREAD; i++) {
                    let unit = first_unit + i * UNIT_THREADS;
                    if (VALUE_UNITS % UNIT_THREADS == 0u || unit < VALUE_UNITS) {
                        let four = value_unit(place, kv_head, unit);
                        for (var row = 0u; row < ROWS; row++) {
                            sums[row * UNITS_PER_THREAD + i] += weights[row * TILE_KEYS + key] * four;
                        }
                    }
                }
            }
        }
    }

    // the threads' shares of a row: of its total (all threads), of its output (the parts)
    workgroupBarrier();
    for (var row = 0u; row < ROWS; row++) {
        weights[row * TILE_KEYS + thread] = totals[row];
    }
    workgroupBarrier();
    for (var row = 0u; row < ROWS; row++) {
        let token = first_token + row / TILE_HEADS;
        let head = first_head + row % TILE_HEADS;
        if (PARTS > 1u) {
            parts[thread] = sums[row * UNITS_PER_THREAD];
            workgroupBarrier();
            if (part == 0u) {
                for (var other = 1u; other < PARTS; other++) {
                    sums[row * UNITS_PER_THREAD] += parts[other * UNIT_THREADS + first_unit];
                }
            }
            workgroupBarrier();
        }
        if (token >= begin && token < stop && part == 0u) {
            var total = 0.0;
            for (var i = 0u; i < WORKGROUP; i++) {
                total += weights[row * TILE_KEYS + i];
            }
            var top = highest[row];
            var shrink = 1.0;
            if (SINKS && split == 0u) {
                let sink = sink_logit(head);
                let higher = max(top, sink);
                shrink = exp(top - higher);
                total = total * shrink + exp(sink - higher);
                top = higher;
            }
            for (var i = 0u; i < UNITS_PER_THREAD; i++) {
                let unit = first_unit + i * UNIT_THREADS;
                if (unit < VALUE_UNITS) {
                    let sum = sums[row * UNITS_PER_THREAD + i] * shrink;
                    put(token, head, split, unit, sum, top, total);
                }
            }
        }
    }
}
