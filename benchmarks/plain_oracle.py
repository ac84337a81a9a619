"""What a program returns, found out without our sandbox: a plain child process that is never told what is expected.

The child gets calls and gives back values as Python writes them, if they are plain ones (numbers, texts, lists and so
on, of exactly those types); this process compares. It limits time, memory and files, and is no jail: what looks as if
it would do more than compute must not get here (`program_signs.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

SECONDS, MEMORY_BYTES = 10, 1 << 30
FAILED = "<the program did not run>"
_LIMITS = f"""
import json, os, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
job = json.load(sys.stdin)
answers = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
"""
_CALLS = (
    _LIMITS
    + """
import ast
def is_plain(value):
    if type(value) in (list, tuple, set):
        return all(map(is_plain, value))
    if type(value) is dict:
        return all(map(is_plain, value)) and all(map(is_plain, value.values()))
    return value is None or type(value) in (bool, int, float, str)
def answer(call):
    try:
        value = function(*ast.literal_eval(call))
        return repr(value) if is_plain(value) else "<" + type(value).__name__ + ">"
    except Exception as error:
        return "<" + type(error).__name__ + ">"
names = {"__name__": "program"}
exec(job["program"], names)
function = names[job["entry_point"]]
found = [answer(call) for call in job["calls"]]
json.dump(found, answers)
answers.close()
"""
)
_CHECK = (
    _LIMITS
    + """
names = {"__name__": "program"}
exec(job["program"], names)
exec(job["tests"], names)
if "check" in names:
    names["check"](names[job["entry_point"]])
json.dump("passed", answers)
answers.close()
"""
)


def returned(program: str, entry_point: str, calls: Sequence[tuple[Any, ...]]) -> list[str]:
    """Return what each call returns as Python writes it; an error, or what is no plain value, in angle brackets."""
    job = {"program": program, "entry_point": entry_point, "calls": [repr(arguments) for arguments in calls]}
    printed, failure = _ran(_CALLS, job)
    if failure:
        return [f"<{failure}>"] * len(calls)
    found: list[str] = json.loads(printed)
    return found


def passes_check(program: str, tests: str, entry_point: str) -> tuple[bool, str]:
    """Run a task's own tests beside the program; return whether they end without an error, and what the error was."""
    printed, failure = _ran(_CHECK, {"program": program, "entry_point": entry_point, "tests": tests})
    return (False, failure) if failure else (json.loads(printed) == "passed", "")


def _ran(source: str, job: dict[str, Any]) -> tuple[str, str]:
    """Return (what the child printed, "") or ("", why it printed nothing)."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", source],
                input=json.dumps(job),
                capture_output=True,
                text=True,
                cwd=folder,
                env={},
                timeout=2 * SECONDS,
            )
        except subprocess.TimeoutExpired:
            return "", f"no answer in {2 * SECONDS} s"
    if done.returncode == 0 and done.stdout:
        return done.stdout, ""
    return "", (done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"])[-1]
