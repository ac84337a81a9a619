"""Reports of runs: the HTML page with its figures and traces, and tables for the terminal."""
