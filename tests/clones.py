"""A copy of the repository as a clone would hold it, for tests that install or build it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT


def clone_to(folder: Path) -> Path:
    """Copy the files that git knows or would take, and nothing that is ignored; skip the test outside a checkout."""
    known = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(known, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a git checkout, so there is nothing to clone")
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.exists() or source.is_symlink():
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                target.symlink_to(os.readlink(source))
            elif source.is_file():
                target.write_bytes(source.read_bytes())
                target.chmod(source.stat().st_mode)
    return folder
