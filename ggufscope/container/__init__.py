"""The GGUF file: header, metadata, tensors, shards. Knows sizes, not values."""
