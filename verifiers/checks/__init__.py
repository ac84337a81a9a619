"""The built-in verifiers, one a file."""
