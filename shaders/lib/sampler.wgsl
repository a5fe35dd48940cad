// What the sampling kernels share: a slot's parameters, partial results of a vocabulary slice, noise.
// Sizes and offsets are repeated in webgpu/kernels/sample.py.

const LOWEST = -3.0e38;        // score of an id that may not be chosen
const UNLIMITED = 1.0e38;      // a distance that every allowed id is within
const NO_ID = 0xffffffffu;
const USES_PENALTIES = 1u;
const USES_BIAS = 2u;
const USES_MASK = 4u;
const RESULT_WORDS = 44u;      // id, bits of its log-probability, position, slot, 20 x (id, bits)

struct Sampler {
    inverse_temperature: f32,  // 1 where greedy
    noise: f32,                // 1: draw; 0: greedy
    top_k: u32,                // 0: off
    top_p: f32,                // 1: off
    reach: f32,                // -ln(min_p): largest distance to the best score; UNLIMITED: off
    repetition: f32,
    frequency: f32,
    presence: f32,
    uses: u32,
    seed_low: u32,
    seed_high: u32,
    next_id: u32,              // sampled last; NO_ID: none yet
    next_position: u32,        // its position; the next draw is for next_position + 1
    padding_0: u32,
    padding_1: u32,
    padding_2: u32,
}

// Of some ids: the best score (noise included) and its id; maximum and sum of exp(y - maximum) of
// the adjusted scores y, and of the model's own logits.
struct Partial {
    score: f32,
    id: u32,
    top: f32,
    total: f32,
    raw_top: f32,
    raw_total: f32,
}

fn empty_partial() -> Partial {
    return Partial(LOWEST, NO_ID, LOWEST, 0.0, LOWEST, 0.0);
}

// Associative and, but for the rounding of the sums, commutative; equal scores: the lower id.
fn merge(a: Partial, b: Partial) -> Partial {
    var result = a;
    if (b.score > a.score || (b.score == a.score && b.id < a.id)) {
        result.score = b.score;
        result.id = b.id;
    }
    result.top = max(a.top, b.top);
    result.total = a.total * exp(a.top - result.top) + b.total * exp(b.top - result.top);
    result.raw_top = max(a.raw_top, b.raw_top);
    result.raw_total = a.raw_total * exp(a.raw_top - result.raw_top)
        + b.raw_total * exp(b.raw_top - result.raw_top);
    return result;
}

fn finite(logit: f32) -> f32 {
    return clamp(logit, -1.0e30, 1.0e30);
}

// PCG4D of Jarzynski and Olano, "Hash Functions for GPU Rendering" (2020).
fn pcg4d(key: vec4u) -> vec4u {
    var v = key * 1664525u + 1013904223u;
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    v ^= v >> vec4u(16u);
    v.x += v.y * v.w;
    v.y += v.z * v.x;
    v.z += v.x * v.y;
    v.w += v.y * v.z;
    return v;
}

// Standard Gumbel noise: the id with the largest y + noise is a draw from softmax(y). It depends on
// seed, position and id alone. v = 1 - u keeps the precision where the noise is large.
fn gumbel(seed_low: u32, seed_high: u32, position: u32, id: u32) -> f32 {
    let v = (f32(pcg4d(vec4u(seed_low, seed_high, position, id)).x) + 0.5) * 2.3283064365386963e-10;
    let exponential = select(-log(max(1.0 - v, 6.0e-8)), v * (1.0 + v * (0.5 + v * 0.33333334)), v < 0.01);
    return -log(exponential);
}
