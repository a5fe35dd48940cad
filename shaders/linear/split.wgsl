// SPLIT groups of threads have each summed some of the columns: all but the first leave their sums for it.
// Header: SPLIT, THREAD_TOKENS; from the op: GROUP_THREADS, `fn keep_part(i, products)` and `fn kept_part(i) -> vec4f`, for
// i < (SPLIT - 1) * THREAD_TOKENS * GROUP_THREADS.
fn give_part(part: u32, thread: u32, i: u32, products: vec4f) {
    if (part > 0u) {
        keep_part(((part - 1u) * THREAD_TOKENS + i) * GROUP_THREADS + thread, products);
    }
}

fn parts_done() {
    workgroupBarrier();
}

// The first group adds the others' sums, always in this order.
fn other_parts(thread: u32, i: u32) -> vec4f {
    var total = vec4f(0.0);
    for (var part = 0u; part < SPLIT - 1u; part++) {
        total += kept_part((part * THREAD_TOKENS + i) * GROUP_THREADS + thread);
    }
    return total;
}
