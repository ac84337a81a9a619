"""Damaged, foreign and unusual model folders: one line that names the cure, never a traceback or a question."""

from __future__ import annotations

import builtins
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, GptOssConfig

from star_rft.models import ModelError, check_model, initialise, load, load_tokenizer
from star_rft.models.spec import ModelSpec
from tests.models.checkpoints import SIZES, configured, rewritten, saved_random
from tests.small_models import save_random_llama

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n"
AUTO_MAP = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_llama(tmp_path_factory.mktemp("files") / "llama")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "model")


@pytest.fixture(autouse=True)
def _no_question(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(prompt: str = "") -> NoReturn:
        raise AssertionError(f"a question on stdin: {prompt}")

    monkeypatch.setattr(builtins, "input", refuse)


def cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def written(name: str, text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text)


def without_a_shard(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    min(folder.glob("model-*.safetensors")).unlink()


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def pickled_object(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"weights": Path("x")}, protocol=2))


def torn_pickle(folder: Path) -> None:
    pickled(folder)
    cut("pytorch_model.bin", 5000)(folder)


def quantised(method: str) -> Callable[[Path], object]:
    return lambda folder: configured(folder, quantization_config={"quant_method": method, "bits": 4, "group_size": 8})


def with_own_code(folder: Path) -> None:
    configured(folder, model_type="own", architectures=["OwnModel"], auto_map=AUTO_MAP)
    (folder / "own.py").write_text(OWN_CODE)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pointer for weights": (
        written("model.safetensors", POINTER),
        r"a git-lfs pointer is in place of the content of model\.safetensors: run `git lfs pull`",
    ),
    "a pointer for the config": (written("config.json", POINTER), r"git-lfs pointer .* of config\.json"),
    "torn weights": (cut("model.safetensors", -100), r"model\.safetensors has \d+ bytes where its header says \d+"),
    "a torn header": (cut("model.safetensors", 50), r"model\.safetensors is no whole safetensors file"),
    "a page in place of weights": (
        written("model.safetensors", "<html>404</html>"),
        r"model\.safetensors is no whole safetensors file",
    ),
    "a missing shard": (without_a_shard, r"1 of the 5 files that model\.safetensors\.index\.json names are missing"),
    "a torn pickle": (torn_pickle, r"pytorch_model\.bin is damaged: download it again"),
    "a pickle of objects": (pickled_object, r"its \*\.bin files are damaged, or hold more than weights"),
    "awq": (quantised("awq"), r"is quantised \(awq\): such weights cannot be fully fine-tuned; take the model"),
    "gptq": (quantised("gptq"), r"is quantised \(gptq\)"),
    "bitsandbytes": (quantised("bitsandbytes"), r"is quantised \(bitsandbytes\)"),
    "compressed-tensors": (quantised("compressed-tensors"), r"is quantised \(compressed-tensors\)"),
    "code of its own": (with_own_code, r"needs code that comes with the model: set model\.trust_remote_code: true"),
    "a newer architecture": (
        lambda folder: configured(folder, model_type="llama9"),
        r"transformers \d[\d.]+ does not know model_type 'llama9': install a newer transformers",
    ),
    "no model_type": (written("config.json", "{}"), r"its config\.json names no model_type"),
    "a broken config": (written("config.json", '{"model_type": '), r"config\.json is no JSON .*: fetch it again"),
    "a config of another kind": (written("config.json", "[]"), r"config\.json holds no JSON object"),
    "a broken generation config": (written("generation_config.json", "{"), r"generation_config\.json is no JSON"),
    "a size that is a word": (
        lambda folder: configured(folder, hidden_size="wide"),
        r"cannot load its config\.json: .*'hidden_size' expected int, got str",
    ),
    "an encoder-decoder": (
        lambda folder: configured(folder, model_type="t5"),
        r"is an encoder-decoder model \(t5\): only decoders can be trained",
    ),
    "an encoder": (
        lambda folder: configured(folder, model_type="bert", num_key_value_heads=None),
        r"is an encoder \(bert\), which does not write text",
    ),
    "an encoder that can be a decoder": (
        lambda folder: configured(folder, model_type="bert-generation", num_key_value_heads=None),
        r"is an encoder \(bert-generation\)",
    ),
    "a model of images": (lambda folder: configured(folder, model_type="vit"), r"is no language model"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_cannot_be_loaded_is_one_line_with_the_cure(fault: str, folder: Path) -> None:
    damage, message = FAULTS[fault]
    damage(folder)
    for read in (load, check_model):
        with pytest.raises(ModelError, match=message) as error:
            read(folder)
        assert "\n" not in str(error.value)


def without_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def tekken(folder: Path) -> None:
    without_tokenizer(folder)
    (folder / "tekken.json").write_text("{}")


def sentencepiece(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")


def tiktoken(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")


def own_tokenizer(folder: Path) -> None:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({"auto_map": {"AutoTokenizer": ["own.OwnTokenizer", None]}, "tokenizer_class": "Own"}))
    (folder / "own.py").write_text("from transformers import PreTrainedTokenizer as OwnTokenizer")


TOKENIZERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "none": (without_tokenizer, "tokenizer"),
    "a pointer": (
        written("tokenizer.json", POINTER),
        r"a git-lfs pointer is in place of the content of tokenizer\.json",
    ),
    "torn": (cut("tokenizer.json", 200), r"tokenizer\.json is no tokenizer that can be read .*: download it again"),
    "another file": (written("tokenizer.json", '{"model": 3}'), r"tokenizer\.json is no tokenizer that can be read"),
    "broken settings": (written("tokenizer_config.json", "{"), r"tokenizer_config\.json is no JSON"),
    "tekken alone": (tekken, r"for mistral-common only \(tekken\.json\): put the tokenizer\.json of the same model"),
    "code of its own": (own_tokenizer, r"its tokenizer needs code .*: set model\.trust_remote_code: true"),
}


@pytest.mark.parametrize("fault", TOKENIZERS)
def test_a_tokenizer_that_cannot_be_loaded_is_one_line_with_the_cure(fault: str, folder: Path) -> None:
    damage, message = TOKENIZERS[fault]
    damage(folder)
    for read in (load_tokenizer, load):
        with pytest.raises(ModelError, match=message) as error:
            read(folder)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("damage", "package"), [(sentencepiece, "sentencepiece"), (tiktoken, "tiktoken")])
def test_the_package_of_a_tokenizer_is_named_where_it_is_missing(
    damage: Callable[[Path], object], package: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(folder)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=f"needs a package that is missing here: pip install {package}"):
        load_tokenizer(folder)


def test_a_checkpoint_of_pickled_weights_is_loaded(folder: Path) -> None:
    before = load(ModelSpec(folder, device="cpu"))[0].state_dict()
    pickled(folder)
    after = load(ModelSpec(folder, device="cpu"))[0].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    check_model(folder)


def test_the_code_of_a_model_runs_with_consent(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    with_own_code(folder)
    assert type(load(ModelSpec(folder, device="cpu", trust_remote_code=True))[0]).__name__ == "OwnModel"


def test_code_of_a_model_that_fails_is_one_line(folder: Path) -> None:
    with_own_code(folder)
    (folder / "own.py").write_text("from transformers import NoSuchThing\n")
    with pytest.raises(ModelError, match="NoSuchThing") as error:
        load(ModelSpec(folder, device="cpu", trust_remote_code=True))
    assert "\n" not in str(error.value)


def in_fp8(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Quantise the linear layers in blocks of 16 by 16, as the checkpoints of DeepSeek are."""
    found = {}
    for name, weight in weights.items():
        found[name] = weight
        if name.endswith("proj.weight"):
            rows, columns = weight.shape
            blocks = weight.view(rows // 16, 16, columns // 16, 16)
            scales = blocks.abs().amax((1, 3)) / 448
            found[name] = (blocks / scales[:, None, :, None]).to(torch.float8_e4m3fn).view(rows, columns)
            found[f"{name}_scale_inv"] = scales
    return found


def test_fp8_weights_are_dequantised_and_saved_as_plain_ones(folder: Path, tmp_path: Path) -> None:
    plain = load_file(folder / "model.safetensors")
    settings: dict[str, Any] = {"quant_method": "fp8", "weight_block_size": [16, 16], "activation_scheme": "dynamic"}
    configured(rewritten(folder, in_fp8), quantization_config=settings)
    check_model(folder)
    model, tokenizer = load(ModelSpec(folder, device="cpu"))
    for name, weight in plain.items():
        assert torch.allclose(model.get_parameter(name), weight, atol=0.07 * float(weight.abs().max())), name
    model.save_pretrained(tmp_path / "again")
    tokenizer.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again" / "model.safetensors").keys() == plain.keys()
    again = load(ModelSpec(tmp_path / "again", device="cpu"))[0].state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
    load(ModelSpec(initialise(folder, into=tmp_path / "random", seed=1), device="cpu"))


def in_mxfp4(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Put blocks of 4-bit numbers in place of experts, as the checkpoints of gpt-oss have them."""
    found = {name: weight for name, weight in weights.items() if not name.endswith(("up_proj", "down_proj"))}
    for name, weight in weights.items():
        if name not in found:
            experts, inputs, outputs = weight.shape
            found[f"{name}_blocks"] = torch.full((experts, outputs, inputs // 32, 16), 0x21, dtype=torch.uint8)
            found[f"{name}_scales"] = torch.full((experts, outputs, inputs // 32), 127, dtype=torch.uint8)
    return found


def test_mxfp4_experts_are_dequantised_in_the_dtype_that_is_asked_for(tmp_path: Path) -> None:
    config = GptOssConfig(
        **SIZES,
        head_dim=8,
        num_local_experts=4,
        num_experts_per_tok=2,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )
    folder = configured(
        rewritten(saved_random(tmp_path, config), in_mxfp4), quantization_config={"quant_method": "mxfp4"}
    )
    check_model(folder)
    model, _ = load(ModelSpec(folder, device="cpu"))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    # 0x21 holds the numbers 0.5 and 1 of fp4, and a scale of 127 is one.
    assert model.get_parameter("model.layers.0.mlp.experts.down_proj").unique().tolist() == [0.5, 1.0]
    model(input_ids=torch.tensor([[1, 5]]))
