"""Extraction of the answer, or of the program, from a completion."""
