"""What a round's model is worth: held-out scores, the gate, diversity, KL to base, audited traces."""
