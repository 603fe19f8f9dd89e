"""Two of something, and the difference: weights, attention, distributions, whole runs."""
