// One workgroup looks at all ids of a row, or, where a bound leaves few, at those alone: they are
// gathered once behind the row's slices in `partials`.
// The op gives `distance_of(id) -> f32` (how far below the best) and `slice_top(slice) -> f32`
// (the best of a slice). Needs VOCABULARY, SLICE, SLICES, ROW_PARTIALS, WORKGROUP.

const CANDIDATES = ROW_PARTIALS - SLICES;

var<workgroup> gathered_count: atomic<u32>;
var<workgroup> shared_count: u32;
var<workgroup> done: u32;              // 1 once gathered; the op sets it to 0 first
var<workgroup> shared_bound: f32;

var<private> current_row: u32;         // the op sets these two first
var<private> current_top: f32;
var<private> is_gathered: bool;
var<private> first_candidate: u32;
var<private> domain: u32 = VOCABULARY; // indices below it are valid in the two functions that follow

fn candidate_distance(index: u32) -> f32 {
    if (is_gathered) {
        return partials[first_candidate + index].score;
    }
    return distance_of(index);
}

fn candidate_id(index: u32) -> u32 {
    if (is_gathered) {
        return partials[first_candidate + index].id;
    }
    return index;
}

// A distance within which at least `count` ids are: that of the count-th best slice. Uniform.
fn slice_bound(count: u32, lane: u32) -> f32 {
    if (lane == 0u) {
        shared_bound = UNLIMITED;
    }
    workgroupBarrier();
    for (var slice = lane; slice < SLICES; slice += WORKGROUP) {
        let own = slice_top(slice);
        var better = 0u;
        for (var other = 0u; other < SLICES; other++) {
            let value = slice_top(other);
            better += select(0u, 1u, value > own || (value == own && other < slice));
        }
        if (better + 1u == count) {
            shared_bound = current_top - own;
        }
    }
    return workgroupUniformLoad(&shared_bound);
}

// Keeps the ids within `limit` only, if they are few and were not gathered before; their order does
// not matter. Uniform control flow.
fn gather(limit: f32, lane: u32) {
    if (workgroupUniformLoad(&done) != 0u) {
        return;
    }
    if (lane == 0u) {
        atomicStore(&gathered_count, 0u);
    }
    workgroupBarrier();
    first_candidate = current_row * ROW_PARTIALS + SLICES;
    for (var slice = 0u; slice < SLICES; slice++) {
        let begin = slice * SLICE;
        let near = current_top - slice_top(slice) <= limit;
        let end = select(begin, min(begin + SLICE, VOCABULARY), near);
        for (var id = begin + lane; id < end; id += WORKGROUP) {
            let distance = distance_of(id);
            if (distance <= limit) {
                let place = atomicAdd(&gathered_count, 1u);
                if (place < CANDIDATES) {
                    partials[first_candidate + place].score = distance;
                    partials[first_candidate + place].id = id;
                }
            }
        }
    }
    storageBarrier();
    workgroupBarrier();
    if (lane == 0u) {
        shared_count = atomicLoad(&gathered_count);
        done = select(0u, 1u, shared_count <= CANDIDATES);
    }
    let count = workgroupUniformLoad(&shared_count);
    if (count <= CANDIDATES) {
        is_gathered = true;
        domain = count;
    }
}
