// From products to the output: bias, activation or gate, scale, row gate, residual, soft cap, in this
// order. Header: GATED, UP_ROWS (weight rows from a gate row to its up row), SCALE, SOFTCAP; roles: bias*,
// row_gate*, lib/activation, lib/residual*.
const PARTS: u32 = select(1u, 2u, GATED);
alias Element = f32;

// `up` is used only where GATED.
fn store(t: u32, n: u32, product: f32, up: f32) {
    let row = first_weight_row(t) + n;
    if (!is_row_here(row)) {
        return;
    }
    var y = activation(product + bias_of(row));
    if (GATED) {
        y *= up + bias_of(row + UP_ROWS);
    }
    y = y * SCALE * row_factor(t) + residual_at(t, n);
    if (SOFTCAP > 0.0) {
        y = SOFTCAP * tanh_safe(y / max(SOFTCAP, 1e-30));
    }
    out[out_base(t) + n] = y;
}

// Four products: of four outputs, or where GATED of the gate and up rows of two.
fn store_quad(t: u32, n: u32, products: vec4f) {
    if (n < OUTPUTS) {
        store(t, n, products.x, products.y);
    }
    if (GATED) {
        if (n + 1u < OUTPUTS) {
            store(t, n + 1u, products.z, products.w);
        }
        return;
    }
    if (n + 1u < OUTPUTS) {
        store(t, n + 1u, products.y, 0.0);
    }
    if (n + 2u < OUTPUTS) {
        store(t, n + 2u, products.z, 0.0);
    }
    if (n + 3u < OUTPUTS) {
        store(t, n + 3u, products.w, 0.0);
    }
}
