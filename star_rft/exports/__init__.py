"""Data out: what rounds were trained on, in the formats of other trainers, and cards that say what it is."""
