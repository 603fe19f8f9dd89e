"""What ``ggufscope list`` shows."""
