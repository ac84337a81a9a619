"""Programmatic verdicts on model completions."""
