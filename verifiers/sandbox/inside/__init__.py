"""Code that runs inside the jail: standard library only, without the rest of `verifiers`."""
