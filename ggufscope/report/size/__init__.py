"""What ``ggufscope size`` shows."""
