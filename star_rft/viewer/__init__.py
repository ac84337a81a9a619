"""A local web application over the ledger of a run: read-only, on this machine only."""
