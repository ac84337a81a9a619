"""Evaluation of a round's model: held-out scores, the gate, diversity, KL to base, flagged traces."""
