// Activations of an epilogue. Header: ACTIVATION (index into linear.py's ACTIVATIONS).
fn sigmoid(y: f32) -> f32 {
    return 1.0 / (1.0 + exp(-y));
}

// tanh through exp: WGSL only promises 1e-5 for tanh, and some drivers return NaN for large arguments.
fn tanh_exact(y: f32) -> f32 {
    return 1.0 - 2.0 / (exp(2.0 * clamp(y, -15.0, 15.0)) + 1.0);
}

// Abramowitz and Stegun 7.1.26, absolute error 1.5e-7.
fn erf(y: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(y));
    let series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(y) * (1.0 - series * exp(-y * y));
}

fn activate(y: f32) -> f32 {
    switch ACTIVATION {
        case 1u: { return y / (1.0 + exp(-y)); }  // silu
        case 2u: { return 0.5 * y * (1.0 + tanh_exact(0.7978845608 * (y + 0.044715 * y * y * y))); }  // gelu
        case 3u: { return 0.5 * y * (1.0 + erf(y * 0.7071067812)); }  // gelu_erf
        case 4u: { return max(y, 0.0); }  // relu
        case 5u: { return tanh_exact(y); }
        case 6u: { return sigmoid(y); }
        default: { return y; }
    }
}
