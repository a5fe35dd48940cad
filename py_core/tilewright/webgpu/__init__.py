"""The only folder that touches WebGPU: graph -> recorded plans of WGSL dispatches."""
