"""Text to token ids and back, as llama.cpp does it with the vocabulary of a GGUF file."""
