"""Looks into GGUF model files: what is stored, what is only computed, and what it weighs."""

__version__ = "0.1.0"
