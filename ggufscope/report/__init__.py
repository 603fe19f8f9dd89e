"""Results to eyes and machines. Computes nothing."""
