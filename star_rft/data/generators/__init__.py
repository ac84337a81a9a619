"""Built-in problems, made from a seed."""
