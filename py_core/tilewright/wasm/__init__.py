"""The CPU path: WebAssembly SIMD modules, assembled at run time, that compute a model's steps."""
