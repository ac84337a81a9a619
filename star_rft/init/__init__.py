"""`star-rft init`: from a data set to a config that runs."""
