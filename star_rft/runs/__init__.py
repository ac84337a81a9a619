"""The run folder: paths, reports, status, timing, and the machine."""
