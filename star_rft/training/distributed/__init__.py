"""Training in several processes, which accelerate starts."""
