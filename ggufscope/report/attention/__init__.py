"""What ``ggufscope attention`` shows."""
