"""Models on another machine: what names them, and how their headers are read from there."""
