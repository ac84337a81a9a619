"""`star-rft init`: from a data set that nobody has described to a config that runs."""
