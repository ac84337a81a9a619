from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from star_rft.build import open_run
from star_rft.build.dry_run import bench_config
from star_rft.errors import UserError
from star_rft.experiments.best_of_n import (
    BestOfN,
    Chooser,
    check_chooser,
    curve,
    doublings,
    held_out_traces,
    measure,
    open_chooser,
    score_file,
    score_traces,
)
from star_rft.loop import run as run_rounds
from star_rft.report.tables import best_of_n_lines, best_of_n_table
from star_rft.scorers.judge import Endpoint, Judge
from star_rft.scorers.majority import Majority
from star_rft.scorers.reward_model import RewardModel
from star_rft.types import Trace
from tests.scorers.conftest import save_reward_model
from tests.scorers.traces import trace
from tests.small_runs import call

SETTINGS = ["eval.max_tokens=64", "data.test.options={steps: [1, 2]}", "verifier.workers=1"]


class Lengths:
    """A scorer of this test: the length of the text, None for an empty one; it may break down on the way."""

    version = "1"

    def __init__(self, *, stops_before: int | None = None) -> None:
        self.asked: list[str] = []
        self.stops_before = stops_before
        self.calls = 0

    def score(self, traces: Sequence[Trace]) -> Iterator[float | None]:
        if self.calls == self.stops_before:
            raise KeyboardInterrupt
        self.calls += 1
        for one in traces:
            self.asked.append(one.sample.id)
            yield float(len(one.sample.text)) or None

    def close(self) -> None:
        return None


def chooser(scorer: Any = None, by: str = "lengths") -> Chooser:
    return Chooser(by, scorer or Lengths(), lambda scores: [max(score or 0.0, 0.0) for score in scores])


def problem(name: str, *samples: tuple[float | None, bool]) -> list[tuple[Trace, float | None]]:
    """Samples with a score and whether they are correct."""
    return [
        (
            trace(
                "?", f"{i}", problem=name, sample_index=i, status="correct" if good else "incorrect", answer=str(good)
            ),
            score,
        )
        for i, (score, good) in enumerate(samples)
    ]


def test_the_ks_double_up_to_n() -> None:
    assert doublings(16) == [1, 2, 4, 8, 16]
    assert doublings(6) == [1, 2, 4, 6]
    assert doublings(1) == [1]
    with pytest.raises(UserError, match="--n 0"):
        doublings(0)


def test_every_k_is_the_mean_over_subsets_and_over_problems() -> None:
    good_score = problem("a", (2.0, True), (1.0, False), (0.0, False), (0.0, False))
    bad_score = problem("b", (0.0, True), (1.0, True), (5.0, False), (0.0, False))
    one, two, four = curve([good_score, bad_score], chooser()).at
    assert (one.k, two.k, four.k) == (1, 2, 4)
    assert one.accuracy == pytest.approx((1 / 4 + 2 / 4) / 2)
    # a: three of six pairs hold the correct one. b: of the three pairs without the 5, (0,1) and (1,0) choose the
    # correct 1; (0,0) ties one correct against one wrong.
    assert two.accuracy == pytest.approx((3 / 6 + 2.5 / 6) / 2)
    assert four.accuracy == pytest.approx((1 + 0) / 2)
    assert (one.score, four.score) == (pytest.approx((3 / 4 + 6 / 4) / 2), pytest.approx((2 + 5) / 2))
    assert one.vs_one is None
    assert four.vs_one is not None
    assert four.vs_one.value == pytest.approx(four.accuracy - one.accuracy)
    assert (one.oracle, two.oracle, four.oracle) == (pytest.approx(3 / 8), pytest.approx((1 / 2 + 5 / 6) / 2), 1.0)
    assert (four.majority, four.weighted_majority) == (pytest.approx((0 + 0.5) / 2), pytest.approx((1 + 0) / 2))


def test_samples_without_a_score_are_counted_and_chosen_last() -> None:
    measured = curve([problem("a", (None, True), (1.0, False)), problem("b", (None, True), (None, False))], chooser())
    assert measured.unscored == 3
    assert [best.accuracy for best in measured.at] == pytest.approx([0.5, 0.25])
    assert [best.score for best in measured.at] == [1.0, 1.0]  # of what is scored, problem b is not
    nothing = curve([problem("b", (None, True), (None, False))], chooser())
    assert [best.score for best in nothing.at] == [None, None]


def over_optimised(problems: int) -> BestOfN:
    """Three middling samples are right, one with the highest score and one with the lowest are wrong."""
    samples = [(1.0, True), (2.0, True), (3.0, True), (9.0, False), *[(-float(i), False) for i in range(1, 5)]]
    return curve([problem(str(i), *samples) for i in range(problems)], chooser())


def test_a_score_that_rises_while_accuracy_falls_is_called_over_optimised() -> None:
    measured = over_optimised(30)
    assert (measured.peak, measured.is_over_optimised) == (2, True)
    assert measured.at[-1].accuracy == 0.0
    said = " ".join(best_of_n_lines(measured))
    assert "Over-optimised: from k=2 to k=8 the score of the chosen one rises from" in said
    assert "The best of 8 by lengths is worse than one sample" in said


def test_a_fall_within_the_noise_is_not_called_over_optimised() -> None:
    up = [problem(f"u{i}", (1.0, True), (0.0, False)) for i in range(9)]
    down = [problem(f"d{i}", (1.0, False), (0.0, True)) for i in range(10)]
    measured = curve(up + down, chooser())
    assert measured.peak == 1
    assert measured.after_peak.value < 0
    assert not measured.is_over_optimised
    said = " ".join(best_of_n_lines(measured))
    assert "does not tell from none" in said
    assert "Over-optimised" not in said
    assert "not measurably better than one sample" in said


def test_a_score_that_helps_up_to_n_is_not_over_optimised() -> None:
    measured = curve([problem(str(i), (1.0, True), (0.0, False), (0.0, False)) for i in range(5)], chooser())
    assert (measured.peak, measured.is_over_optimised, measured.after_peak.value) == (3, False, 0.0)
    assert best_of_n_lines(measured)[0].startswith("The best of 3 by lengths is better than one sample")


def test_the_table_fits_80_columns() -> None:
    from io import StringIO

    from rich.console import Console

    out = StringIO()
    Console(file=out, width=200).print(best_of_n_table(over_optimised(30), "title"))
    assert "weighted" in out.getvalue()
    assert max(len(line.rstrip()) for line in out.getvalue().splitlines()) <= 80


def problems_of(count: int, samples: int = 2) -> list[Trace]:
    return [
        trace("?", f"{i}" * (j + 1), problem=f"p{i}", sample_index=j, status="correct")
        for i in range(count)
        for j in range(samples)
    ]


def test_what_is_scored_already_is_not_scored_again_and_what_is_new_is(tmp_path: Path) -> None:
    traces, path = problems_of(3), tmp_path / "scores" / "file.jsonl"
    seen: list[int] = []
    first = Lengths()
    expected = [float(len(one.sample.text)) for one in traces]
    assert score_traces(traces[:4], first, path=path, advance=lambda n, _: seen.append(n)) == expected[:4]
    second = Lengths()
    assert score_traces(traces, second, path=path, advance=lambda n, _: seen.append(n)) == expected
    assert second.asked == [one.sample.id for one in traces[4:]]
    assert seen == [0, 4, 4, 2]


def test_no_score_is_a_result_too_and_not_asked_for_again(tmp_path: Path) -> None:
    traces, path = [trace("?", "", problem="p")], tmp_path / "file.jsonl"
    again = Lengths()
    for scorer in (Lengths(), again):
        assert score_traces(traces, scorer, path=path, advance=lambda *_: None) == [None]
    assert again.asked == []


def test_an_interruption_costs_one_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_rft.experiments.best_of_n.CHUNK", 4)
    traces, path = problems_of(6, samples=3), tmp_path / "file.jsonl"
    with pytest.raises(KeyboardInterrupt):
        score_traces(traces, Lengths(stops_before=2), path=path, advance=lambda *_: None)
    with path.open("a") as file:
        file.write('{"scores": {"torn')
    rest = Lengths()
    scores = score_traces(traces, rest, path=path, advance=lambda *_: None)
    assert scores == [float(len(one.sample.text)) for one in traces]
    assert rest.asked == [one.sample.id for one in traces[6:]]


def test_a_scorer_sees_all_samples_of_a_problem_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("star_rft.experiments.best_of_n.CHUNK", 4)
    traces = problems_of(4, samples=3)
    assert score_traces(traces, Majority(), path=None, advance=lambda *_: None) == [1.0] * 12


def test_other_settings_of_a_scorer_have_another_file(tmp_path: Path) -> None:
    other = Lengths()
    other.version = "2"
    names = {
        score_file(tmp_path, chooser()),
        score_file(tmp_path, chooser(other)),
        score_file(tmp_path, chooser(by="a:b")),
    }
    assert len(names) == 3
    assert all(":" not in path.name for path in names)


@pytest.mark.parametrize(
    ("by", "model", "options", "says"),
    [
        ("rewards", None, {}, "--by 'rewards' is neither a scorer nor a verifier; valid are judge"),
        ("reward_model", None, {}, "needs --scorer-model"),
        ("majority", "m", {}, "--by majority asks no model"),
        ("math", "m", {}, "--by math asks no model"),
        ("judge", "m", {"url": "http://host"}, "asks no model in this process"),
        ("reward_model", "m", {"batch": 3}, "scorer 'reward_model' has no option 'batch'; valid options: device"),
        (
            "reward_model",
            "m",
            {"batch_tokens": "many"},
            "'many' is not valid: input should be a valid integer",
        ),
        ("reward_model", "m", {"batch_tokens": True}, "input should be a valid integer"),
        ("majority", None, {"x": 1}, "valid options: none"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_drawn(
    by: str, model: str | None, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError) as caught:
        check_chooser(by, model=model, options=options)
    assert says in str(caught.value)


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reward_model(tmp_path_factory.mktemp("reward") / "model")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, reward: Path) -> tuple[Path, dict[str, Any]]:
    """The command with a reward model, once from the beginning."""
    folder = tmp_path_factory.mktemp("best")
    done = call(*command("reward_model", reward), cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def command(by: str, model: Path | None = None, *more: str) -> list[str]:
    arguments = ["best-of-n", "tiny", "--data", "word_problems", "--n", "4", "--limit", "8", "--by", by, "--json"]
    arguments += ["--scorer-model", str(model)] if model else []
    return [*arguments, *(part for setting in SETTINGS for part in ("--set", setting)), *more]


def test_the_command_prints_one_document_and_keeps_samples_and_scores(
    begun: tuple[Path, dict[str, Any]], reward: Path
) -> None:
    folder, document = begun
    assert (document["by"], document["problems"], document["n"], document["unscored"]) == ("reward_model", 8, 4, 0)
    assert [best["k"] for best in document["at"]] == [1, 2, 4]
    scores = [best["score"] for best in document["at"]]
    assert scores == sorted(scores)
    assert len(set(scores)) == 3
    file = next((folder / document["run"] / "scores").iterdir())
    assert sum(len(json.loads(line)["scores"]) for line in file.read_text().splitlines()) == 32
    assert file.name == f"reward_model-{file.stem.rpartition('-')[2]}.jsonl"


def settled(folder: Path) -> Any:
    config = bench_config("tiny", "word_problems", ks=[1, 2, 4], limit=8, overrides=SETTINGS)
    return config.model_copy(update={"run_dir": str(folder / "runs" / config.name)})


def test_the_samples_are_those_of_a_benchmark(begun: tuple[Path, dict[str, Any]]) -> None:
    folder, document = begun
    config = settled(folder)
    assert config.folder == folder / document["run"]
    with open_run(config) as stages:
        report = next(iter(run_rounds(stages, rounds=0)))
        assert stages.context.engine._sampler is None  # nothing was drawn again
    assert report.held_out is not None
    assert [best["oracle"] for best in document["at"]] == pytest.approx(list(report.held_out.pass_at_k.values()))


def test_a_repeated_command_asks_neither_model(
    begun: tuple[Path, dict[str, Any]], reward: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, document = begun
    shutil.copytree(folder / "runs", tmp_path / "runs")
    monkeypatch.setattr("star_rft.scorers.reward_model._load", None)
    monkeypatch.setattr("star_rft.engines.hf.sampler.load", None)
    with open_run(settled(tmp_path)) as stages:
        options: dict[str, Any] = {"verifier": "math", "workers": 1, "timeout": 10.0}
        again = open_chooser("reward_model", stages, model=str(reward), options={}, **options)
        measured = measure(stages, again)
    assert [best.score for best in measured.at] == [best["score"] for best in document["at"]]
    assert [best.accuracy for best in measured.at] == [best["accuracy"] for best in document["at"]]


def test_the_kept_scores_are_those_of_the_samples(begun: tuple[Path, dict[str, Any]], reward: Path) -> None:
    folder, document = begun
    file = next((folder / document["run"] / "scores").iterdir())
    kept = {name: score for line in file.read_text().splitlines() for name, score in json.loads(line)["scores"].items()}
    with open_run(settled(folder)) as stages:
        traces = held_out_traces(stages)
    assert len(traces) == 32
    scores = list(RewardModel(reward).score(traces))
    assert [kept[one.sample.id] for one in traces] == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("by", ["math", "exact", "majority", "likelihood", "judge"])
def test_whatever_chooses_chooses_among_the_same_samples(begun: tuple[Path, dict[str, Any]], by: str) -> None:
    folder, document = begun
    more = ("--set", "scorer.max_tokens=4", "--set", "scorer.template={question}{answer}") if by == "judge" else ()
    done = call(*command(by, None, *more), cwd=folder)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["run"] == document["run"]
    assert [best["oracle"] for best in measured["at"]] == [best["oracle"] for best in document["at"]]
    assert measured["at"][0]["accuracy"] == pytest.approx(document["at"][0]["accuracy"])
    if by == "math":
        assert [best["accuracy"] for best in measured["at"]] == pytest.approx(
            [best["oracle"] for best in measured["at"]]
        )
    if by == "judge":  # the tiny model does not know what a judge is
        assert measured["unscored"] == 32


def test_the_table_is_followed_by_words(begun: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = begun
    arguments = [argument for argument in command("majority") if argument != "--json"]
    done = call(*arguments, "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "tiny: best of k by majority, 8 problems x 4 samples" in done.stdout
    assert "The best of 4 by majority is" in done.stdout
    assert "counts votes of all samples" in done.stdout


def opened(stages: Any, by: str, path: Path | None = None, **options: Any) -> Chooser:
    verifier: dict[str, Any] = {"verifier": "math", "workers": 1, "timeout": 10.0}
    return open_chooser(by, stages, model=str(path) if path else None, options=options, **verifier)


def test_scores_weigh_in_a_vote_as_what_they_are(begun: tuple[Path, dict[str, Any]], reward: Path) -> None:
    with open_run(settled(begun[0])) as stages:
        rewards = opened(stages, "reward_model", reward).weigh([0.0, 1.0, -800.0, None])
        likelihoods = opened(stages, "likelihood").weigh([-1000.0, -1001.0, None])
        points = opened(stages, "judge", lowest=1).weigh([1.0, 5.0, None])
    assert rewards == pytest.approx([0.5, 1 / (1 + math.exp(-1)), 0.0, 0.0])
    assert likelihoods == pytest.approx([1.0, math.exp(-1), 0.0])
    assert points == [0.0, 4.0, 0.0]


def test_a_judge_asks_the_server_that_is_named_and_needs_all_that_takes(begun: tuple[Path, dict[str, Any]]) -> None:
    with open_run(settled(begun[0])) as stages:
        judge = opened(stages, "judge", url="http://localhost:8000/v1", model="m", retries=1, highest=10)
        assert isinstance(judge.scorer, Judge)
        assert isinstance(judge.scorer.complete, Endpoint)
        assert judge.scorer.highest == 10
        with pytest.raises(UserError, match=r"scorer\.url needs scorer\.model"):
            opened(stages, "judge", url="http://localhost:8000/v1")
        with pytest.raises(UserError, match=r"scorer\.retries is of a server: give scorer\.url too"):
            opened(stages, "judge", retries=1)
