"""Which vLLM an interpreter has, found without importing it."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path

from star_rft.errors import UserError

WORKER = Path(__file__).parent / "vllm_engine" / "worker.py"
ADVICE = "pip install 'star-rft[vllm]' there, or set vllm.python to the interpreter of an environment that has vLLM"


@lru_cache
def vllm_version(python: str) -> str:
    """Return the version of vLLM in the environment of an interpreter; UserError where there is none."""
    try:
        done = subprocess.run(
            [python, str(WORKER), "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except (FileNotFoundError, PermissionError, NotADirectoryError) as error:
        raise UserError(f"vllm.python: {python} cannot be run ({error.strerror})") from error
    except (subprocess.TimeoutExpired, OSError) as error:
        raise UserError(f"vllm.python: {python} does not run as an interpreter ({error})") from error
    if done.returncode != 0:
        last = next(iter(done.stderr.strip().splitlines()[-1:]), f"exit status {done.returncode}")
        raise UserError(f"vllm.python: {python} does not run as an interpreter ({last})")
    if not (version := done.stdout.strip()):
        raise UserError(f"vLLM is not installed for {python}: {ADVICE}")
    return version
