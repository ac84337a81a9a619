"""Numeric scores of traces, one scorer a file; each is a `Scorer` of `star_rft.types`."""
