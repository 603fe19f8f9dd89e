"""What differs between two models: metadata, tensors, and a verdict over both."""
