// Where a token's row lies in the paged KV cache of a layer.
// Header: KV_BLOCK, MAX_BLOCKS, block_tables: array<u32>.
const_assert 0u == (KV_BLOCK & (KV_BLOCK - 1u)); // naga wants no parenthesis first

fn cache_row(slot: u32, position: u32) -> u32 {
    return block_tables[slot * MAX_BLOCKS + position / KV_BLOCK] * KV_BLOCK + position % KV_BLOCK;
}
