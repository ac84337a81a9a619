"""Plant small faults one by one in a copy of the checkout, and say which tests find them.

    python scripts/mutations.py --out mutations.json              # all, after a clean copy has passed both tiers
    python scripts/mutations.py --out mutations.json --baseline   # only the clean copy
    python scripts/mutations.py --only biased_pass_at_k           # some of them, those in reserve too
    python scripts/mutations.py --only biased_pass_at_k --tests tests/test_statistics.py   # with these tests only
    python scripts/mutations.py --list

Each fault replaces a text that its file has exactly once. The files that git has or would take, as they lie in the
working tree, are copied into a temporary folder, one fault is planted, and the fast tests run there (what `make test`
runs), those that are named after the file or its folder before the others; only where all pass the tests marked `full`
run too. A test counts as finding a fault if its function, run alone, fails with the fault and passes without it; a
failing test that does not is left out, and the tier runs again.

With `--out` the results are kept in a JSON file after each fault, and what it has is not run again, unless the fault
was changed since. Ends with status 1 if a fault survives both tiers. Needs the environment of the tests, pytest-xdist
included; `--python` names an interpreter that has it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("star_rft", "verifiers")
SPECIAL = "not slow and not gpu and not vllm and not ray"
# The marker expression of each tier; of the fast one pyproject.toml has it.
TIERS: dict[str, list[str]] = {"fast": [], "full": ["-m", f"full and {SPECIAL}"]}
TIER_SECONDS = 3600  # a tier that a fault keeps from ending is as good as failed
NO_END = f"no end within {TIER_SECONDS} s"
NO_TESTS = 5  # pytest's exit status
# It looks for the texts that are replaced, and would find every fault.
ABOUT_THIS_TABLE = "tests/scripts/test_mutations.py"


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fault: in the file `path`, `old`, which it has exactly once, is replaced by `new`."""

    name: str
    path: str
    old: str
    new: str

    @property
    def digest(self) -> str:
        return hashlib.sha256("\0".join((self.path, self.old, self.new)).encode()).hexdigest()[:16]

    @property
    def near(self) -> list[str]:
        """The folders and files of tests that are named after the file or its folder; they may be none."""
        package, *folders, file = Path(self.path).parts
        names = [*folders[:1], Path(file).stem, *([package] if package == "verifiers" else [])]
        places = [place for name in names for place in (f"tests/{name}", f"tests/test_{name}.py")]
        return [place for place in places if (ROOT / place).exists()]

    def mutated(self, text: str) -> str:
        """Return the text of the file with the fault; raise ValueError where `old` is not in it exactly once."""
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"{self.name}: {self.path} has the text {count} times instead of once: {self.old!r}")
        return text.replace(self.old, self.new)


# fmt: off
MUTATIONS = (
    # Ledger
    Mutation("the_oldest_verdict_counts", "star_rft/ledger/views.py",
        "partition by sample_id order by ordinal desc) = 1",
        "partition by sample_id order by ordinal) = 1"),
    Mutation("a_changed_part_of_the_same_size_is_believed", "star_rft/ledger/parts.py",
        'elif (reads_all or stat.st_mtime_ns != line["mtime_ns"][table]) and not',
        'elif (reads_all and stat.st_mtime_ns != line["mtime_ns"][table]) and not'),
    Mutation("a_fork_numbers_its_verdicts_anew", "star_rft/ledger/manifest.py",
        'return len(self.lines) + (int(self.lines[0].get("follows", 0)) if self.lines else 0)',
        "return len(self.lines)"),
    # Selection
    Mutation("a_trace_is_the_duplicate_of_a_dropped_one", "star_rft/selection/candidates.py",
        "partition by problem_id, {column}, why is null order by {order}",
        "partition by problem_id, {column} order by {order}"),
    Mutation("dropped_traces_count_in_the_weight_of_a_prompt", "star_rft/selection/candidates.py",
        "1.0 / count(*) over (partition by problem_id, why is null)",
        "1.0 / count(*) over (partition by problem_id)"),
    Mutation("the_hinted_share_is_of_the_unhinted", "star_rft/selection/rules.py",
        "hinted and place * {1 - share} > {share} * unhinted",
        "hinted and place > {share} * unhinted"),
    # Statistics
    Mutation("biased_pass_at_k", "star_rft/statistics.py",
        "return 1.0 - comb(n - correct, k) / comb(n, k)",
        "return 1.0 - (1.0 - correct / n) ** k"),
    Mutation("an_upper_bound_from_the_lower_quantile", "star_rft/statistics.py",
        "betaincinv(correct + 1, n - correct, confidence)",
        "betaincinv(correct + 1, n - correct, 1 - confidence)"),
    # Training
    Mutation("the_first_token_of_a_completion_is_masked", "star_rft/training/batching.py",
        "start = max(len(example.prompt_ids), 1)",
        "start = max(len(example.prompt_ids), 1) + 1"),
    Mutation("weights_are_shifted_by_a_token", "star_rft/training/losses.py",
        "weights[:, 1:][:, nll.columns]",
        "weights[:, :-1][:, nll.columns]"),
    Mutation("each_micro_batch_is_averaged_by_itself", "star_rft/training/trainer.py",
        "self.step_loss.loss(nll, inputs, num_items_in_batch[:-1])",
        "self.step_loss.loss(nll, inputs, self.step_loss.totals(inputs))"),
    # Verifiers
    Mutation("units_agree_in_part", "verifiers/math/units.py",
        "return reference.known == answer.known",
        "return bool(reference.known & answer.known)"),
    Mutation("an_unknown_verdict_is_rewarded_with_0", "verifiers/rewards.py",
        'if verdict.status == "unknown" or verdict.score is not None:',
        "if verdict.score is not None:"),
    # Sampler
    Mutation("attempts_share_a_seed", "star_rft/sampling/plan.py",
        "return _mixed(_mixed(base_R + problem_R) + sample_index_R)",
        "return _mixed(_mixed(base_R + problem_R))"),
    Mutation("a_short_prompt_sees_the_key_behind_it", "star_rft/engines/hf/slot_attention.py",
        "prefix_T < aim.lengths_N[:, None], suffix_T",
        "prefix_T <= aim.lengths_N[:, None], suffix_T"),
    # Gate
    Mutation("a_gain_whose_interval_holds_zero", "star_rft/evaluation/gate.py",
        "_is_evidence(best_for_then, lambda found: found.low > 0)",
        "_is_evidence(best_for_then, lambda found: found.value > 0)"),
    Mutation("a_rolled_back_round_is_remembered_as_kept", "star_rft/stages/metrics.py",
        "rolled_back=is_out, signs=",
        "rolled_back=False, signs="),
    # Report
    Mutation("the_page_calls_any_rise_good", "star_rft/report/page.py",
        'tone = "good" if change.low > 0 else',
        'tone = "good" if change.value > 0 else'),
    # Data
    Mutation("contamination_minds_the_case", "star_rft/data/contamination.py",
        'unicodedata.normalize("NFKC", text).casefold()',
        'unicodedata.normalize("NFKC", text)'),
    Mutation("the_warm_start_is_not_checked_for_held_out_problems", "star_rft/build/problems.py",
        'overlaps([*problems["train"], *warm_start], [',
        'overlaps(problems["train"], ['),
)
# More of the same kind, for when one of the above has no place in the code any more.
RESERVE = (
    Mutation("an_interval_of_90_percent", "star_rft/statistics.py",
        "low, high = np.quantile(means, [0.025, 0.975])\n    return Interval(float(values.mean())",
        "low, high = np.quantile(means, [0.05, 0.95])\n    return Interval(float(values.mean())"),
    Mutation("top_p_leaves_out_the_token_that_reaches_it", "star_rft/engines/hf/decoding.py",
        "is_kept_N_S = mass_N_S - largest_N_S < target_N_1",
        "is_kept_N_S = mass_N_S < target_N_1"),
    Mutation("lengths_on_the_page_include_hinted_samples", "star_rft/report/data.py",
        "split = 'train' and not hinted group by round order by round",
        "split = 'train' group by round order by round"),
    Mutation("the_tolerance_is_a_share_of_the_answer", "verifiers/checks/numeric.py",
        "abs(expected.value) * Fraction(rel_tol)",
        "abs(number.value) * Fraction(rel_tol)"),
)
# fmt: on


def main() -> int:
    arguments = _arguments()
    known = {mutation.name: mutation for mutation in (*MUTATIONS, *RESERVE)}
    if arguments.list:
        for mutation in known.values():
            print(f"{mutation.name:<60}{mutation.path}{'  (in reserve)' if mutation in RESERVE else ''}")
        return 0
    chosen = [known[name] for name in arguments.only] if arguments.only else list(MUTATIONS)
    if arguments.tests:
        return _try_out(chosen, arguments.tests, arguments.python)
    results = Results(arguments.out)
    with _copy(ROOT, _files()) as clean:
        _require_own_packages(clean, arguments.python)
        if not (results.passed_clean or _passes_clean(clean, arguments.python, results)):
            return 1
        if arguments.baseline:
            return 0
        for mutation in chosen:
            if not results.has(mutation):
                with _copy(clean) as mutated:
                    plant(mutation, mutated)
                    results.add(mutation, Search(clean, mutated, arguments.python, mutation.near).find())
            print(_line(mutation.name, results.found[mutation.name]), flush=True)
    print(results.summary(chosen))
    return int(any(results.found[mutation.name]["found_by"] == "none" for mutation in chosen))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [mutation.name for mutation in (*MUTATIONS, *RESERVE)]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="these faults instead of all")
    parser.add_argument("--tests", nargs="+", metavar="PATH", help="run only these tests, and no clean copy; no --out")
    parser.add_argument("--out", type=Path, help="keep the results in this JSON file, and go on from it")
    parser.add_argument("--baseline", action="store_true", help="only see whether a clean copy passes")
    parser.add_argument("--list", action="store_true", help="print the names of the faults and their files")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs the tests")
    return parser.parse_args()


# Copies


def _files() -> list[str]:
    """Return the files of the working tree that git has or would take, without the test of this table."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    names = [name for name in listed.stdout.split("\0") if name and name != ABOUT_THIS_TABLE]
    return [name for name in names if os.path.lexists(ROOT / name)]


@contextmanager
def _copy(source: Path, names: Sequence[str] | None = None) -> Iterator[Path]:
    """Yield a temporary copy of a folder, or of some of its files; links stay links."""
    with tempfile.TemporaryDirectory(prefix="mutation-", ignore_cleanup_errors=True) as temporary:
        target = Path(temporary) / "copy"
        if names is None:
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        for name in names or ():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name, follow_symlinks=False)
        yield target


def plant(mutation: Mutation, folder: Path) -> None:
    path = folder / mutation.path
    path.write_text(mutation.mutated(path.read_text()))


def _require_own_packages(folder: Path, python: str) -> None:
    """End the program where processes of the tests would import the packages from elsewhere than the copy."""
    code = f"import {', '.join(PACKAGES)}; print({', '.join(f'{name}.__file__' for name in PACKAGES)}, sep='\\n')"
    done = subprocess.run(
        [python, "-c", code], cwd=folder.parent, env=_environment(folder), capture_output=True, text=True, check=True
    )
    if foreign := [path for path in done.stdout.splitlines() if not Path(path).is_relative_to(folder)]:
        sys.exit(f"{python} imports {', '.join(foreign)} instead of the copy: use another environment")


# Tests


def _environment(folder: Path) -> dict[str, str]:
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def _failing(folder: Path, python: str, options: Sequence[str]) -> str | None:
    """Run tests until one fails; return its file and function, or None where all pass."""
    command = [python, "-m", "pytest", "-x", "-q", "--color=no", *options]
    environment = _environment(folder)
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            output, _ = process.communicate(timeout=TIER_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return NO_END
    if process.returncode == 0:
        return None
    failed = [
        line.split(" ", 1)[1] for line in output.splitlines() if line.startswith(("FAILED tests/", "ERROR tests/"))
    ]
    if not failed:
        tail = "\n".join(output.splitlines()[-30:])
        what = "found no tests" if process.returncode == NO_TESTS else f"ended with status {process.returncode}"
        sys.exit(f"{' '.join(command)} {what}\n{tail}")
    # Of a test with parameters the function: a parameter may hold anything.
    return failed[0].partition(" - ")[0].partition("[")[0]


@dataclass(frozen=True, slots=True)
class Search:
    """Looks for a test that fails with a fault and passes without."""

    clean: Path
    mutated: Path
    python: str
    near: Sequence[str]  # the tests to begin with

    def find(self) -> dict[str, Any]:
        """Return `found_by`, the `test`, the `seconds` of both tiers, and the `left_out` tests, which failed by chance.

        `found_by` is fast, full or none.
        """
        left_out: list[str] = []
        began = time.monotonic()
        first = [("fast", [*TIERS["fast"], *self.near])] if self.near else []
        for tier, options in [*first, *TIERS.items()]:
            while test := self._first_failing(options, left_out):
                if self._is_finding(test):
                    return {"found_by": tier, "test": test, "seconds": _since(began), "left_out": left_out}
                left_out.append(test)
        return {"found_by": "none", "test": None, "seconds": _since(began), "left_out": left_out}

    def _first_failing(self, options: Sequence[str], left_out: Sequence[str]) -> str | None:
        without = [option for test in left_out for option in ("--deselect", test)]
        return _failing(self.mutated, self.python, ["-n", "auto", "--dist", "worksteal", *options, *without])

    def _is_finding(self, test: str) -> bool:
        if test == NO_END:
            return True
        alone = ["-m", SPECIAL, test]
        return bool(_failing(self.mutated, self.python, alone)) and not _failing(self.clean, self.python, alone)


def _since(began: float) -> float:
    return round(time.monotonic() - began, 1)


def _passes_clean(clean: Path, python: str, results: Results) -> bool:
    for tier, options in TIERS.items():
        began = time.monotonic()
        test = _failing(clean, python, ["-n", "auto", "--dist", "worksteal", *options])
        print(f"clean copy, {tier}: {test or 'passes'}, {_since(began)} s", flush=True)
        results.add_clean(tier, {"test": test, "seconds": _since(began)})
        if test:
            print("without a clean copy that passes, faults say nothing")
            return False
    return True


def _try_out(chosen: Sequence[Mutation], tests: Sequence[str], python: str) -> int:
    survivors = 0
    for mutation in chosen:
        with _copy(ROOT, _files()) as mutated:
            plant(mutation, mutated)
            began = time.monotonic()
            test = _failing(mutated, python, ["-m", SPECIAL, *tests])
        print(f"{mutation.name}: {test or 'survives'}, {_since(began)} s", flush=True)
        survivors += test is None
    return int(survivors > 0)


# Results


class Results:
    """What was found, by name of the fault; in a file where there is one."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        raw = json.loads(path.read_text()) if path is not None and path.exists() else {}
        self.clean: dict[str, dict[str, Any]] = raw.get("clean", {})
        self.found: dict[str, dict[str, Any]] = raw.get("mutations", {})

    @property
    def passed_clean(self) -> bool:
        return all(tier in self.clean and self.clean[tier]["test"] is None for tier in TIERS)

    def has(self, mutation: Mutation) -> bool:
        return self.found.get(mutation.name, {}).get("digest") == mutation.digest

    def add_clean(self, tier: str, result: dict[str, Any]) -> None:
        self.clean[tier] = result
        self._write()

    def add(self, mutation: Mutation, result: dict[str, Any]) -> None:
        self.found[mutation.name] = asdict(mutation) | {"digest": mutation.digest} | result
        self._write()

    def _write(self) -> None:
        if self.path is not None:
            self.path.write_text(json.dumps({"clean": self.clean, "mutations": self.found}, indent=1) + "\n")

    def summary(self, chosen: Sequence[Mutation]) -> str:
        by = [self.found[mutation.name]["found_by"] for mutation in chosen]
        found = len(by) - by.count("none")
        return f"{found} of {len(by)} found, {by.count('fast')} by the fast tests"


def _line(name: str, result: dict[str, Any]) -> str:
    by_chance = f" ({len(result['left_out'])} tests failed by chance)" if result["left_out"] else ""
    cells = [name, result["path"], result["found_by"], result["test"] or "-", f"{result['seconds']} s{by_chance}"]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
