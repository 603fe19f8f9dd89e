"""From token ids to logits, in NumPy, with every quantity on the way open to view."""
