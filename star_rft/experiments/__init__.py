"""Forks and controls of a run, comparisons of runs, and best-of-n."""
