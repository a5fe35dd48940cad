// QkvPrepare role: q, k and v are three bindings.
fn q_at(token: u32, column: u32) -> f32 {
    return q[token * Q_STRIDE + Q_START + column];
}

fn k_at(token: u32, column: u32) -> f32 {
    return k[token * K_STRIDE + K_START + column];
}

fn v_at(token: u32, column: u32) -> f32 {
    return v[token * V_STRIDE + V_START + column];
}
