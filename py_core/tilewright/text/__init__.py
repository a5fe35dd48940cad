"""Text to token ids and back, and messages to prompts; knows nothing of files, graphs or GPUs."""
