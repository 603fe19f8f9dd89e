"""What ``ggufscope tokens`` shows."""
