"""Continuous batching on transformers, in this process."""
