"""Sampling: plan requests, draw completions, verify them, commit them to the ledger."""
