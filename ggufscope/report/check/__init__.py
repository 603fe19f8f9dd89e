"""What ``ggufscope check`` found."""
