"""Other runs on the samples of one, and what differs between runs."""
