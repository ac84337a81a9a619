"""What a round trains, and what it goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from star_rft.training.round import Places, RoundTraining, Supervised
from star_rft.types import Example

EXAMPLE = Example((1,), (2,))
CONTINUING = Supervised(fit=lambda *a, **k: None, start="last", max_steps=10, step_growth=1.2, continues_optimizer=True)


@pytest.mark.parametrize(
    ("last", "expected"),
    [("base", None), ("warm", None), ("rounds/001/checkpoint", Path("rounds/001/checkpoint"))],
)
def test_the_optimizer_goes_on_from_a_round_and_never_from_where_the_loop_began(
    last: str, expected: Path | None, tmp_path: Path
) -> None:
    """A roll-back to the base leaves no moments to go on with, whatever the number of the round."""
    told: dict[str, Any] = {}
    RoundTraining(CONTINUING, None).run(
        3,
        starts={"base": "base", "warm_start": "warm", "last": last},
        places=Places(tmp_path, tmp_path / "policy", tmp_path / "supervised", tmp_path / "verifier"),
        examples=lambda: [EXAMPLE],
        rankings=list,
        do=lambda fit, title, items, start, out, **options: told.update(options, start=start),
    )
    assert told == {"start": last, "max_steps": 14, "save_optimizer": True, "optimizer_from": expected}
