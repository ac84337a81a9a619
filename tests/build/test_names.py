"""Names in a config that are wrong: the file is named with the key, or with what kind of plug-in it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from star_rft import config as configs
from star_rft.build import check_names
from star_rft.errors import UserError
from tests.small_runs import MINIATURE
from verifiers import VerifierError


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"verifier": {"name": "mth"}}, "unknown verifier 'mth' (did you mean 'math'?)"),
        ({"verifier": {"name": "math", "options": {"unit": 1}}}, "verifier 'math' has no option 'unit' (did you mean"),
        ({"scorer": {"name": "majorty"}}, "unknown scorer 'majorty' (did you mean 'majority'?)"),
        ({"scorer": {"name": "likelihood"}}, "scorer likelihood needs a model"),
        ({"sample": {"backend": "vlm"}}, "sample.backend: unknown engine 'vlm' (did you mean 'vllm'?)"),
        # Whether or not a cluster draws now: `ray` may be set later, in a run that has begun.
        ({"ray": {"engine": "vlm"}}, "ray.engine: unknown engine 'vlm' (did you mean 'vllm'?)"),
        ({"ray": {"engine": "server"}}, "ray.engine: a server is used without a cluster"),
        ({"select": {"rules": ["corect"]}}, "select.rules: unknown rule 'corect' (did you mean 'correct'?)"),
        ({"report_to": "tensorbord"}, "report_to: 'tensorbord' is no tracker (did you mean 'tensorboard'?)"),
    ],
)
def test_the_file_is_named_with_what_is_wrong_and_the_nearest_name(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(MINIATURE | changes))
    with pytest.raises((UserError, VerifierError)) as raised:
        check_names(configs.load(file))
    assert str(raised.value).startswith(f"{file}: {said}")
    assert "\n" not in str(raised.value)
