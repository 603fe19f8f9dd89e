"""Is a file sound? What is looked at, what was found, and what that means."""
