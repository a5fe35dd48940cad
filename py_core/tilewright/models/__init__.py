"""Architectures: model file -> graph; weight names as data."""

from .registry import (
    build_graph,
    known_architectures,
    read_constants,
    required_constants,
    trained_context,
)

__all__ = [
    "build_graph",
    "known_architectures",
    "read_constants",
    "required_constants",
    "trained_context",
]
