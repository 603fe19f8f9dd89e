"""What ``ggufscope quantize`` shows."""
