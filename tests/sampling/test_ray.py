"""Units drawn by a real Ray cluster of several nodes on this machine, of which some are killed at their work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from star_rft.ledger import Ledger
from tests.small_runs import MINIATURE, command, environment, outcome

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

ACTOR = "MapWorker(MapBatches(Drawer))"
UNITS = MINIATURE["sample"] | {"unit": 8, "batch_size": 8}
TRAIN = {"source": "word_problems", "options": {"n": 48, "seed": 1, "steps": [1, 2]}}


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A head that holds no actor, and two nodes that hold one each."""
    utilities = pytest.importorskip("ray.cluster_utils", reason="the extra ray is not installed")
    found = utilities.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        found.add_node(num_cpus=1)
    yield found
    found.shutdown()


def write_config(folder: Path, *, address: str | None, **changes: Any) -> Path:
    settings = MINIATURE | {
        "rounds": 1,
        "run_dir": str(folder / "run"),
        "data": MINIATURE["data"] | {"train": TRAIN},
        "sample": UNITS | {"backend": "ray"},
        "ray": {"address": address, "actors": 2},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings | changes))
    return path


def started(config: Path, cwd: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command("run", str(config), "--quiet"),
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_units(run: Path, count: int, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and sum("-train-" in name for name in Ledger(run).units()) < count:
        time.sleep(0.05)


def actors() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if ACTOR in " ".join(p.info["cmdline"] or [])]


def each_request_once(run: Path) -> int:
    """Hold that what the plans asked for is what the ledger has; return how many requests that is."""
    con = Ledger(run).connect()
    plans = [str(path) for path in [*run.glob("rounds/*/plan*.parquet"), *run.glob("rounds/*/eval_plan.parquet")]]
    key = "split, problem_id, sample_index, decode_id, seed"
    wanted = con.execute(f"select {key} from read_parquet(?) order by all", [plans]).fetchall()
    # A round of evaluation asks what the one before it asked, but of another model and with other seeds.
    assert con.execute(f"select {key} from samples order by all").fetchall() == wanted
    assert con.execute("select count(*), count(distinct sample_id) from traces").fetchall() == [(len(wanted),) * 2]
    return len(wanted)


def test_a_killed_actor_and_a_killed_node_change_nothing(cluster: Any, tmp_path: Path) -> None:
    process = started(write_config(tmp_path, address=cluster.address))
    wait_for_units(tmp_path / "run", 3, process)
    os.kill(actors()[0].pid, signal.SIGKILL)
    wait_for_units(tmp_path / "run", 8, process)
    cluster.remove_node(next(node for node in cluster.list_all_nodes() if node is not cluster.head_node), False)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert each_request_once(tmp_path / "run") == 48 * 4 + 2 * 10 * 5
    alone = write_config(tmp_path, address=None, run_dir=str(tmp_path / "alone"), sample=UNITS | {"backend": "hf"})
    with started(alone) as process:
        process.communicate()
        assert process.returncode == 0
    assert outcome(tmp_path / "run") == outcome(tmp_path / "alone")


def test_a_killed_run_goes_on_and_what_its_actors_left_behind_does_not_count(cluster: Any, tmp_path: Path) -> None:
    config = write_config(tmp_path, address=cluster.address)
    process = started(config)
    wait_for_units(tmp_path / "run", 4, process)
    process.kill()
    process.communicate()
    kept = Ledger(tmp_path / "run").units()
    again = started(config)
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    units = Ledger(tmp_path / "run", is_writer=True).units()
    assert {name: units[name] for name in kept} == kept
    assert each_request_once(tmp_path / "run") == 48 * 4 + 2 * 10 * 5
    named = {path.name for path in tmp_path.glob("run/ledger/samples/*")}
    assert len(named) == sum("samples" in line["parts"] for line in Ledger(tmp_path / "run")._manifest.groups.values())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ray": {"gpus": 1.0}}, "no node of the cluster can hold an actor of ray.cpus=1 and ray.gpus=1"),
        ({"ray": {"address": "127.0.0.1:1"}}, "ray.address='127.0.0.1:1': no cluster is there"),
        ({"model": {"name": "tiny", "device": "cuda"}}, "has no CUDA device"),
    ],
)
def test_what_cannot_be_is_one_line_and_never_a_wait(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    process = started(write_config(tmp_path, address=None, **changes))
    _, errors = process.communicate(timeout=300)
    assert process.returncode in (1, 2)
    assert says in errors
    assert "Traceback" not in errors


def test_too_many_unknown_verdicts_are_told_as_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "my_checks.py").write_text("def check(completion, reference):\n    raise RuntimeError\n")
    data, verifier = {"dev": MINIATURE["data"]["dev"]}, {"name": "my_checks:check", "workers": 1}
    config = write_config(tmp_path, address=None, rounds=0, data=data, verifier=verifier)
    _, errors = started(config, cwd=tmp_path).communicate(
        timeout=300
    )  # Ray warns of itself, which tests take for an error
    assert "of 50 verdicts (100.0%) are unknown (fault 50)" in errors
    assert "core_worker" not in errors


def test_nodes_run_an_engine_of_ones_own(cluster: Any, tmp_path: Path) -> None:
    config = write_config(
        tmp_path,
        address=cluster.address,
        rounds=0,
        sample=UNITS | {"backend": "ray", "engine_options": {"texts": [" The answer is 1."]}},
        ray={"address": cluster.address, "actors": 1, "engine": "tests.engines.test_registry:script"},
    )
    process = started(config)
    _, told = process.communicate()
    assert process.returncode == 0, told
    query = "select distinct text, backend, backend_version from samples join decodings using (decode_id)"
    rows = Ledger(tmp_path / "run").connect().sql(query).fetchall()
    assert rows == [(" The answer is 1.", "tests.engines.test_registry:script", "7")]
