// Elementwise role: the same row added to every row of x. The binding is called `row`.
fn element(index: u32, column: u32) -> Element {
    return x[index * X_STRIDE + X_START + column] + row[column];
}
