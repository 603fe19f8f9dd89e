"""What a model weighs, on disk and in memory. Headers and plans only: no tensor is opened."""
