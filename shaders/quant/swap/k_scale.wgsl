// Scale and minimum of a group of Q4_K or Q5_K without shifting them: see quant/k_scales.
fn swap_scale(row: u32, group: u32) -> vec2f {
    let i = scale_index(row, group / 8u * 5u);
    let pair = scales[i + 1u + group % 8u / 2u];
    let odd = (group & 1u) == 1u;
    let factors = select(vec2f(1.0, 1.0 / 256.0), vec2f(1.0 / 65536.0, 1.0 / 16777216.0), odd);
    let found = vec2u(pair) & select(vec2u(0xffu, 0xff00u), vec2u(0xff0000u, 0xff000000u), odd);
    return unpack2x16float(scales[i]) * (vec2f(found) * factors);
}
