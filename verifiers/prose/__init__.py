"""Equations that are stated in prose, and whether they hold."""
