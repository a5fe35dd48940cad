// QkvPrepare role: q, k and v are columns of one buffer `x`.
fn q_at(token: u32, column: u32) -> f32 {
    return x[token * Q_STRIDE + Q_START + column];
}

fn k_at(token: u32, column: u32) -> f32 {
    return x[token * K_STRIDE + K_START + column];
}

fn v_at(token: u32, column: u32) -> f32 {
    return x[token * V_STRIDE + V_START + column];
}
