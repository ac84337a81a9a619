"""A training in several processes, which accelerate starts."""
