"""benchmarks/architectures.py: its families can be built as they say, and a planted fault is shown as one."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import transformers

from star_rft.engines.hf.sampler import HFSampler
from star_rft.errors import UserError
from star_rft.models.spec import ModelSpec
from star_rft.training.options import FitReport
from star_rft.types import Completion, Decoding, Example, Request
from tests.programs import BENCHMARKS, benchmark
from tests.small_runs import environment


@pytest.fixture(scope="module")
def families() -> ModuleType:
    return benchmark("architecture_families")


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    return benchmark("architecture_checks")


@pytest.fixture(scope="module")
def architectures() -> ModuleType:
    return benchmark("architectures")


@pytest.fixture(scope="module")
def llama(families: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    families.save(next(one for one in families.FAMILIES if one.name == "llama"), folder)
    return folder


@pytest.fixture(scope="module")
def oracle(checks: ModuleType, llama: Path) -> Any:
    return checks.Oracle.of(llama)


@dataclasses.dataclass(frozen=True)
class Faulty:
    """A sampler whose completions are changed by `fault`."""

    sampler: HFSampler
    fault: Callable[[Completion], Completion]

    def sample(
        self, requests: Sequence[Request], *, decoding: Decoding, batch_size: int | None = None
    ) -> Iterator[Completion]:
        return map(self.fault, self.sampler.sample(requests, decoding=decoding, batch_size=batch_size))

    def batch_size_for(self, max_prompt_tokens: int, decoding: Decoding) -> int:
        return self.sampler.batch_size_for(max_prompt_tokens, decoding)

    def close(self) -> None:
        self.sampler.close()


def test_there_are_many_families_and_each_has_a_name_of_its_own(families: ModuleType) -> None:
    names = [one.name for one in families.FAMILIES]
    assert len(set(names)) == len(names) >= 75
    assert {one.model_type for one in families.FAMILIES} <= set(transformers.CONFIG_MAPPING)


def test_every_option_of_a_family_is_a_field_of_its_config(families: ModuleType) -> None:
    def unknown(config: Any, options: Mapping[str, Any]) -> list[str]:
        names = {one.name for one in dataclasses.fields(config)} | set(config.attribute_map)
        names |= {"model_type", "rope_theta"}  # which DBRX reads without having it as a field
        found = [name for name in options if name not in names]
        for name, kind in config.sub_configs.items():
            if its := options.get(name):
                found += unknown(transformers.CONFIG_MAPPING[its["model_type"]] if "model_type" in its else kind, its)
        return found

    for one in families.FAMILIES:
        kind = transformers.CONFIG_MAPPING[one.model_type]
        assert unknown(kind, {**one.options, **dict.fromkeys(one.dropout)}) == [], one.name


@pytest.mark.full
def test_a_family_without_a_fault_is_exact(checks: ModuleType, llama: Path, oracle: Any) -> None:
    sampler = HFSampler(ModelSpec(llama, dtype="float32", device="cpu"))
    drawn: list[Completion] = []
    assert checks.greedy_cell(sampler, oracle, drawn) == checks.Cell("ok", "15/15")
    assert checks.logprob_cell(sampler, oracle, drawn).state == "ok"


def test_completions_reach_an_end_and_the_length(oracle: Any, checks: ModuleType) -> None:
    lengths = [len(ids) for ids in oracle.completions]
    assert min(lengths) < checks.MAX_TOKENS == max(lengths)


def test_a_wrong_log_probability_is_shown(checks: ModuleType, llama: Path, oracle: Any) -> None:
    def off(one: Completion) -> Completion:
        return replace(one, logprob=(one.logprob or 0.0) - 0.001 * len(one.token_ids))

    sampler = Faulty(HFSampler(ModelSpec(llama, dtype="float32", device="cpu")), off)
    assert checks.logprob_cell(sampler, oracle, []) == checks.Cell("wrong", "1e-03")
    missing = Faulty(sampler.sampler, lambda one: replace(one, logprob=None))
    assert checks.logprob_cell(missing, oracle, []) == checks.Cell("wrong", "inf")


def test_another_token_is_shown(checks: ModuleType, llama: Path, oracle: Any) -> None:
    def off(one: Completion) -> Completion:
        return replace(one, token_ids=(*one.token_ids[:-1], 70)) if one.request.sample_index == 1 else one

    sampler = Faulty(HFSampler(ModelSpec(llama, dtype="float32", device="cpu")), off)
    assert checks.greedy_cell(sampler, oracle, []) == checks.Cell("wrong", "10/15")


def test_prompts_that_the_sampler_refuses_are_left_out_and_named(checks: ModuleType) -> None:
    class Short:
        def sample(self, requests: Sequence[Request], **options: Any) -> Iterator[Completion]:
            if any(len(request.prompt) > 20 for request in requests):
                raise UserError(f"the prompt of problem {requests[0].problem_id} is too long")
            return iter(())

    assert checks.accepted(Short()) == ([0], "the prompt of a problem is too long")


def test_a_completion_that_goes_on_past_its_end_is_shown(oracle: Any) -> None:
    prompt, completion = oracle.prompts[0], oracle.completions[0]
    assert oracle.is_greedy(prompt, completion, completion)
    assert not oracle.is_greedy(prompt, completion[:-1], completion)
    assert not oracle.is_greedy(prompt, (*completion, 70), completion)


def test_a_training_loss_that_is_not_that_of_each_row_alone_is_shown(checks: ModuleType, oracle: Any) -> None:
    examples = [Example(oracle.prompts[i], oracle.completions[i]) for i in (0, 4)]
    truth = checks.expected_loss(oracle, examples)
    report = FitReport(1, 2, 0, 9, loss_first=truth, loss_last=truth, seconds=1.0)
    assert checks.judged_loss(report, oracle, examples).state == "ok"
    assert checks.judged_loss(replace(report, loss_first=truth + 0.01), oracle, examples).state == "wrong"


def test_a_refusal_is_one_line_and_anything_else_is_a_crash(checks: ModuleType) -> None:
    def raises(error: Exception) -> Callable[[], Any]:
        def check() -> Any:
            raise error

        return check

    assert checks.guarded(raises(UserError("use vLLM"))) == checks.Cell("refused", "use vLLM")
    assert checks.guarded(raises(UserError("first\nsecond"))).state == "crash"
    assert checks.guarded(raises(KeyError("x"))) == checks.Cell("crash", "CRASH: KeyError: 'x'")


def test_the_table_gives_each_reason_once(checks: ModuleType, architectures: ModuleType) -> None:
    def row(name: str, **cells: Any) -> Any:
        given = {column: checks.Cell(*cell) for column, cell in cells.items()}
        return checks.Row(name, name, dict.fromkeys(checks.COLUMNS, checks.NOTHING) | given, 1.0)

    rows = [
        row("a", path=("refused", "AForCausalLM is recurrent: use vLLM")),
        row("b", path=("refused", "BForCausalLM is recurrent: use vLLM")),
        row("c", path=("ok", "hf"), greedy=("wrong", "3/15")),
    ]
    lines = architectures.table(rows).splitlines()
    assert [line.split("|")[2].strip() for line in lines[2:5]] == ["refused (1)", "refused (1)", "hf"]
    assert "**WRONG**: 3/15" in lines[4]
    assert "1. the model is recurrent: use vLLM" in lines
    assert architectures.counts(rows).endswith("0 exact, 2 refused by the hf engine, 1 at fault; at fault: c")


def test_a_fault_makes_the_program_fail(
    checks: ModuleType, architectures: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(architectures, "isolated", lambda one: checks.Row.crashed(one, "ended with status -11"))
    monkeypatch.setattr(sys, "argv", ["architectures.py", "--only", "llama"])
    with pytest.raises(SystemExit) as ended:
        architectures.main()
    assert ended.value.code == 1
    printed = capsys.readouterr().out
    assert "**CRASH** (1)" in printed
    assert "1. CRASH: ended with status -11" in printed


def test_an_unknown_family_is_refused_by_name(architectures: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no family lama: --list names them all"):
        architectures.chosen(["lama", "llama"])


@pytest.mark.full
def test_an_exact_family_is_measured_in_every_column(
    checks: ModuleType, architectures: ModuleType, tmp_path: Path
) -> None:
    (llama,) = architectures.chosen(["llama"])
    row = checks.measure(llama, tmp_path)
    assert {name: cell.state for name, cell in row.cells.items()} == dict.fromkeys(checks.COLUMNS, "ok")
    assert not row.is_at_fault


@pytest.mark.slow
def test_the_program_measures_an_exact_family_and_a_refused_one() -> None:
    program = [sys.executable, str(BENCHMARKS / "architectures.py"), "--only", "llama", "--only", "t5", "--jobs", "1"]
    run = subprocess.run(program, env=environment(), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    lines = [line.split("|")[1:-1] for line in run.stdout.splitlines() if line.startswith("|")]
    found = {name: rest for name, *rest in ([cell.strip() for cell in line] for line in lines)}
    path, greedy, logprob, loss, *rest = found["llama"]
    assert (path, greedy, rest) == ("hf", "15/15", ["ok"] * 3)
    assert float(logprob) < 1e-4
    assert float(loss) < 1e-4
    assert found["t5"] == ["refused (1)", *["-"] * 6]
