"""The sandbox that runs untrusted programs, and the judge outside it."""
