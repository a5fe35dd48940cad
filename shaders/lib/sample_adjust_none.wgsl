// No slot of the plan has penalties, bias or a mask.
fn adjusted(logit: f32, id: u32, slot: u32, wanted: Sampler) -> f32 {
    return logit * wanted.inverse_temperature;
}
