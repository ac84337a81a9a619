"""Equations stated in prose, and whether they hold."""
