"""Worker processes that run verifiers, and the pool that feeds them."""
