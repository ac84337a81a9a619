"""Supervised and preference training over TRL. Importing this loads no torch."""
