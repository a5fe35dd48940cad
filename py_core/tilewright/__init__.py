"""Tilewright: language models inside a web page, and natively, from one Python core."""

__version__ = "0.1.0"
