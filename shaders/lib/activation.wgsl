// The activation functions, for one element or for four at once.
// Header: alias Element (f32 or vec4f), ACTIVATION (numbers as in kernels/header.py).

// WGSL's own tanh may overflow to NaN for large arguments, so it is built on exp(-2|x|); near zero,
// where 1 - exp() cancels, five terms of the series are exact to f32 (|x| < 1/4).
fn tanh_safe(x: Element) -> Element {
    let e = exp(-2.0 * abs(x));
    let z = x * x;
    let series = x * (Element(1.0) + z * (Element(-0.33333333) + z * (Element(0.13333333)
        + z * (Element(-0.053968254) + z * Element(0.021869488)))));
    return select(sign(x) * (Element(1.0) - e) / (Element(1.0) + e), series, abs(x) < Element(0.25));
}

fn sigmoid(x: Element) -> Element {
    let e = exp(-abs(x));
    return select(Element(1.0), e, x < Element(0.0)) / (Element(1.0) + e);
}

// Error function, good to 1.1e-7. Coefficients: least squares at Chebyshev nodes, of erf(x) / x in
// x*x below 1 and of erfc(x) exp(x*x) in t = 1 / (1 + x/2) above (the form of Abramowitz and
// Stegun 7.1.26).
fn erf(x: Element) -> Element {
    let z = x * x;
    let near = x * (Element(1.1283791273927481) + z * (Element(-0.3761234978454117)
        + z * (Element(0.11280364408030918) + z * (Element(-0.026716385096586054)
        + z * (Element(0.0049232776651502805) + z * Element(-0.0005654105859462771))))));
    let a = min(abs(x), Element(8.0));
    let t = Element(1.0) / (Element(1.0) + 0.5 * a);
    let tail = t * (Element(0.2769990257084103) + t * (Element(0.3319788938855134)
        + t * (Element(0.05563094287033256) + t * (Element(0.5265382779246733)
        + t * Element(-0.1907502499181084)))));
    let far = sign(x) * (Element(1.0) - tail * exp(-a * a));
    return select(far, near, abs(x) < Element(1.0));
}

fn activation(x: Element) -> Element {
    switch ACTIVATION {
        case 1u: { return x * sigmoid(x); }
        // gelu, tanh form: sqrt(2/pi) = 0.7978845608
        case 2u: {
            let inner = 0.7978845608028654 * x * (Element(1.0) + 0.044715 * x * x);
            return 0.5 * x * (Element(1.0) + tanh_safe(inner));
        }
        case 3u: { return 0.5 * x * (Element(1.0) + erf(0.7071067811865476 * x)); }
        case 4u: { return max(x, Element(0.0)); }
        case 5u: { return tanh_safe(x); }
        case 6u: { return sigmoid(x); }
        case 7u: { let r = max(x, Element(0.0)); return r * r; }
        default: { return x; }
    }
}
