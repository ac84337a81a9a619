"""The jail that runs untrusted code, and the judge that trusts none of it."""
