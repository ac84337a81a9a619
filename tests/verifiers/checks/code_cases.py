"""References of the code verifier and the verdict on one program."""

from __future__ import annotations

from typing import Any

import verifiers

CHECK = "def check(candidate):\n"


def judge(pool: verifiers.Pool, program: str, reference: Any) -> verifiers.Verdict:
    (verdict,) = pool.verify_iter([(program, reference)])
    return verdict


def cases(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"cases": [{"stdin": stdin, "stdout": stdout} for stdin, stdout in pairs]}
