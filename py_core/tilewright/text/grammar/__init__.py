"""Constrained decoding: JSON Schema and GBNF to masks over a model's vocabulary."""
