"""What ``ggufscope diff`` shows."""
