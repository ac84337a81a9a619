"""What runs inside the jail: standard library only, and started without the rest of `verifiers`."""
