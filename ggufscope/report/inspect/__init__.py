"""What ``ggufscope inspect`` shows."""
