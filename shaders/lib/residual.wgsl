// Residual role: something is added to the result.
// Header: RESIDUAL_STRIDE, RESIDUAL_START, residual: array<Element>, alias Element.
fn residual_at(row: u32, column: u32) -> Element {
    return residual[row * RESIDUAL_STRIDE + RESIDUAL_START + column];
}
