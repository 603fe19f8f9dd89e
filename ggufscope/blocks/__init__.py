"""Weights as bytes: arrays in, arrays out. Knows no file."""
