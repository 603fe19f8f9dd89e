"""What ``ggufscope evaluate`` shows."""
