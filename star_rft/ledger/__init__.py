"""The trace ledger: append-only Parquet parts, a manifest that names those that count, and DuckDB views of them.

A unit of sampling is committed in this order: samples part, verdicts part, one line of the manifest. A crash before
the line leaves files that the manifest does not name, and the next writer removes them.
"""

from star_rft.ledger.manifest import SCHEMA
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
    "batches",
    "described",
    "write_unit",
]
