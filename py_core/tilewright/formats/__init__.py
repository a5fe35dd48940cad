"""Bytes of model files -> metadata and named tensors. Knows nothing about GPUs or text."""
