"""What the file means. Reads names and numbers, never weights."""
