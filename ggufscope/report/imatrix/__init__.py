"""What ``ggufscope imatrix`` shows."""
