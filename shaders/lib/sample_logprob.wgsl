// The model's own log-probability of an id: before penalties, bias and temperature.
fn own_logprob(row: u32, id: u32, all: Partial) -> f32 {
    return finite(logits[row * VOCABULARY + id]) - all.raw_top - log(all.raw_total);
}
