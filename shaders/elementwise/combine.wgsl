// Elementwise role: sum over the USED chosen experts of weight * y, plus residual.
// Needs a residual role.
fn element(row: u32, column: u32) -> Element {
    var sum = Element(0.0);
    for (var used = 0u; used < USED; used++) {
        let weight = weights[row * WEIGHTS_STRIDE + WEIGHTS_START + used];
        sum += weight * y[row * Y_STRIDE + Y_START + used * WIDTH + column];
    }
    return sum + residual_at(row, column);
}
