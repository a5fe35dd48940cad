"""Architectures: model file -> graph; weight names as data."""

from .registry import (
    build_graph,
    known_architectures,
    original_context,
    read_constants,
    required_constants,
    trained_context,
)

__all__ = [
    "build_graph",
    "known_architectures",
    "original_context",
    "read_constants",
    "required_constants",
    "trained_context",
]
