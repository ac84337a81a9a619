"""The trace ledger: append-only Parquet parts, a manifest of those that count, DuckDB views.

A unit of sampling commits in this order: samples part, verdicts part, one line of the manifest. A crash before
that line leaves files which nothing names; the next writer removes them. Later verdicts supersede earlier ones.
"""

from star_rft.ledger.manifest import SCHEMA, Manifest
from star_rft.ledger.parts import described, write_unit
from star_rft.ledger.schemas import FLAGGED, PREFERENCES, PROBLEMS, ROUNDS, SAMPLES, SCORES, SELECTION, VERDICTS
from star_rft.ledger.store import Ledger
from star_rft.ledger.views import batches

__all__ = [
    "FLAGGED",
    "PREFERENCES",
    "PROBLEMS",
    "ROUNDS",
    "SAMPLES",
    "SCHEMA",
    "SCORES",
    "SELECTION",
    "VERDICTS",
    "Ledger",
    "Manifest",
    "batches",
    "described",
    "write_unit",
]
