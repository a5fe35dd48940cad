// The most products and sums per second that this device does in f32: eight independent chains of
// vec4 products and sums per thread, nothing read from memory. Not `fma`: where the
// hardware has none, that is a call per component.
//
// Header: WORKGROUP, STEPS; bindings: out.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(global_invocation_id) thread: vec3u) {
  // Run-time values, so that no compiler can compute the end of a chain: |scale| < 1 keeps it finite.
  let scale = vec4f(0.5f + f32(thread.x & 7u) * 0.05f);
  let shift = vec4f(f32(thread.x & 15u), 1.0f, 2.0f, 3.0f);
  var a = shift;
  var b = shift + 1.0f;
  var c = shift + 2.0f;
  var d = shift + 3.0f;
  var e = shift + 4.0f;
  var f = shift + 5.0f;
  var g = shift + 6.0f;
  var h = shift + 7.0f;
  for (var step = 0u; step < STEPS; step++) {
    a = a * scale + shift;
    b = b * scale + shift;
    c = c * scale + shift;
    d = d * scale + shift;
    e = e * scale + shift;
    f = f * scale + shift;
    g = g * scale + shift;
    h = h * scale + shift;
  }
  out[thread.x] = a + b + c + d + e + f + g + h;
}
