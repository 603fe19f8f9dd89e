"""How far one result is from another: attention rows, distributions, vectors, weights."""
