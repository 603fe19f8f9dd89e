"""What ``ggufscope compare-attention`` shows."""
