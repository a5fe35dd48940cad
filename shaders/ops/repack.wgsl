// Turns raw file blocks of whole rows into the planes that the kernels read; one thread per word.
// Header: WORKGROUP, COLUMNS, ROW_BYTES, QUANT_WORDS, SCALE_WORDS.
// Roles: quant/layout_*, quant/repack/bytes, quant/repack/<format>: packed_quants, packed_scales.
struct Job {
    first_row: u32,        // row of the planes that the first raw row becomes
    rows: u32,             // raw rows
    total_rows: u32,       // rows of the planes
    raw_byte_offset: u32,  // where the first raw row starts
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_id) local: vec3u,
) {
    let i = (group.y * groups.x + group.x) * WORKGROUP + local.x;
    let row = i / (QUANT_WORDS + SCALE_WORDS);
    let word = i % (QUANT_WORDS + SCALE_WORDS);
    if (row >= min(job.rows, job.total_rows - job.first_row)) {
        return;
    }
    if (word < QUANT_WORDS) {
        quants[quant_index(job.first_row + row, word)] = packed_quants(row, word);
    } else if (SCALE_WORDS > 0u) {
        let scale_word = word - QUANT_WORDS;
        scales[scale_index(job.first_row + row, scale_word)] = packed_scales(row, scale_word);
    }
}
