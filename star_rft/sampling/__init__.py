"""From a round's problems to verified samples in the ledger: plan, draw, verify, commit."""
