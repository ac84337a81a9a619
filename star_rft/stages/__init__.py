"""The stages of a round, one file each, with the round's metrics and the trackers that log them."""
