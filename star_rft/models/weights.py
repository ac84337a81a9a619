"""Whether a checkpoint held the weights of its model: all of them, and nothing that would be lost without a word."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from star_rft.models.errors import ModelError, few
from star_rft.models.limits import text_config

# Buffers that older versions of transformers saved and that are computed now: masks, positions, rotations.
_BUFFERS = re.compile(
    r"(^|\.)((attn|attention|self_attn|self_attention)\.(masked_)?bias|masked_bias|causal_mask|embed_positions\.weights"
    r"|(original_)?inv_freq|position_ids|rotary_emb\.\w+|cos_cached|sin_cached|num_batches_tracked)$"
)
# Layers that predict several tokens ahead, which transformers leaves out of its models.
_MTP = re.compile(r"(^|\.)(mtp|nextn|eagle)\w*\.")
# Other media, where only the text part of a multimodal checkpoint is loaded.
MEDIA = re.compile(
    r"(^|\.)(vision|visual|image|vit|vpm|resampler|audio|speech|sound|video|multi_modal|mm_|embed_vision|embed_audio"
    r"|connector|aligner|talker|token2wav)\w*\."
)
_HEADS = re.compile(r"(^|\.)(score|classifier|v_head|value_head|reward_head|rm_head|classification_head)\.")
_ADAPTERS = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|base_layer|modules_to_save|original_module|lora_magnitude)\b")
_QUANTISED = re.compile(r"\.(qweight|qzeros|scales|g_idx|weight_scale(_inv)?|weight_packed|absmax|quant_map)\b")
_LAYER = re.compile(r"(^|\.)(?:layers|h|blocks|block)\.(\d+)\.")


def check_weights(path: str | Path, model: Any, info: Mapping[str, Any]) -> None:
    """Raise ModelError where a checkpoint lacks weights, or has weights that the model has no place for.

    `info` is what `from_pretrained` returns with `output_loading_info`: it knows tied weights, weights that are saved
    in another layout, and what an architecture declares as left out.
    """
    # transformers unties these with a warning; other tools that load the checkpoint would tie them again.
    if untied := set(model.get_expanded_tied_weights_keys(all_submodels=True)) - set(model.all_tied_weights_keys):
        raise ModelError(
            f"{path}: config.json ties {few(untied)} to the embeddings, and the checkpoint has other values: set "
            "tie_word_embeddings: false in config.json"
        )
    missing = set(info["missing_keys"])
    mismatched = {str(name): (tuple(found), tuple(expected)) for name, found, expected in info["mismatched_keys"]}
    unexpected = {name for name in info["unexpected_keys"] if not _may_be_left_out(name, model)}
    if not missing and not mismatched:
        unexpected = {name for name in unexpected if not MEDIA.search(name)}
    if not missing and not mismatched and not unexpected:
        return
    faults = []
    if missing:
        faults.append(f"{len(missing)} weights of the model are missing ({few(missing)})")
    if unexpected:
        faults.append(f"{len(unexpected)} weights have no place in the model ({few(unexpected)})")
    if mismatched:
        name, (found, expected) = min(mismatched.items())
        faults.append(f"{len(mismatched)} weights have another shape ({name}: {_by(found)}, not {_by(expected)})")
    raise ModelError(f"{path}: {'; '.join(faults)}: {_cause(missing, unexpected, mismatched)}")


def _may_be_left_out(name: str, model: Any) -> bool:
    return (
        _BUFFERS.search(name) is not None
        or _MTP.search(name) is not None
        or _is_next_token_layer(name, model)
        or name in {buffer for buffer, _ in model.named_buffers()}
    )


def _is_next_token_layer(name: str, model: Any) -> bool:
    """Whether a weight is of the layers after the last one: DeepSeek and GLM put those for more tokens ahead there."""
    text = text_config(model.config).to_dict()
    layers, ahead = text.get("num_hidden_layers"), text.get("num_nextn_predict_layers")
    found = _LAYER.search(name)
    return bool(found and layers and ahead) and layers <= int(found[2]) < layers + ahead  # type: ignore[index]


def _cause(missing: Collection[str], unexpected: Collection[str], mismatched: Collection[str]) -> str:
    """Return the likely cause and its cure."""
    if any(_ADAPTERS.search(name) for name in unexpected):
        return "an adapter was saved without being merged: call merge_and_unload() before save_pretrained()"
    if any(_QUANTISED.search(name) for name in unexpected):
        return "its weights are quantised: take the model that they were made from"
    if any(_HEADS.search(name) for name in unexpected):
        return "it is a reward model or classifier: model.name must be a language model"
    if prefix := _prefix(unexpected, missing):
        return f"a trainer left the prefix {prefix!r} in the names: rename them without it"
    if prefix := _prefix(missing, unexpected):
        return f"the names lack the prefix {prefix!r}: rename them with it"
    if mismatched:
        return "config.json does not fit these weights: take both from the same model"
    if missing and all(_LAYER.search(name) for name in missing) and not unexpected:
        layers = {int(found[2]) for name in missing if (found := _LAYER.search(name))}
        return (
            f"layers {min(layers)} to {max(layers)} are not whole in the checkpoint: a file is missing, or config.json "
            "has more layers than the weights"
        )
    if unexpected and all(_LAYER.search(name) for name in unexpected) and not missing:
        return "config.json has fewer layers or parts than the weights: take both from the same model"
    if missing and not unexpected:
        return "the checkpoint is not whole: save or download it again"
    return "config.json is that of another architecture: take config and weights from the same model"


def _prefix(longer: Collection[str], shorter: Collection[str]) -> str | None:
    """Return what all of the longer names have before a name of the others; None where there is no such prefix."""
    if not longer or not shorter:
        return None
    name = min(longer)
    ends = [name[: -len(short)] for short in shorter if name.endswith(short) and name != short]
    names = set(shorter)
    for prefix in sorted(ends, key=len):
        # A tied head or a buffer may differ, so most of the names are enough.
        fitting = sum(long.removeprefix(prefix) in names for long in longer if long.startswith(prefix))
        if prefix.endswith((".", "_")) and fitting >= 0.8 * len(longer):
            return prefix
    return None


def _by(shape: Collection[int]) -> str:
    return "×".join(str(size) for size in shape)
