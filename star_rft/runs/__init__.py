"""The run folder: its paths, its reports, its status, its timing, and the machine it is of."""
