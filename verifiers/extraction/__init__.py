"""The answer, or the program, in a completion."""
