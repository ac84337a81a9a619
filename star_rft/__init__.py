"""star-rft: train a language model on its own verified attempts."""

__version__ = "0.1.0"
