// QkvPrepare role: no rotation (ROTATED is 0).
const_assert ROTATED == 0u;

fn rope_partner(element: u32) -> u32 {
    return element;
}

fn rope_rotate(position: u32, element: u32, own: f32, partner: f32) -> f32 {
    return own;
}
