"""Which class of transformers a model is loaded with: a text model, or a multimodal one that works by text alone."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from star_rft.models.errors import ModelError, explained, first_line, library_errors
from star_rft.models.limits import text_config
from star_rft.models.spec import AnyModel, ModelSpec

# Checkpoints in these formats become plain weights while they are loaded; others can only be used as they are.
DEQUANTISED = ("fp8", "mxfp4")


def read_config(model: AnyModel) -> Any:
    """Return the config object of a model."""
    from transformers import AutoConfig

    spec = ModelSpec.of(model)
    try:
        return AutoConfig.from_pretrained(spec.path, trust_remote_code=spec.trust_remote_code)
    except library_errors() as error:
        raise explained(error, spec.path, what="config.json", is_trusted=spec.trust_remote_code) from error


def auto_class(path: str | Path, config: Any) -> Any:
    """Return the class of transformers that loads a causal language model of this config.

    A model with a text part among others is loaded whole, so that its other weights stay in the checkpoints that are
    trained from it. Raises ModelError for what does not write text after text.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMultimodalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MULTIMODAL_LM_MAPPING

    kind, text = type(config), text_config(config)
    if config.is_encoder_decoder or text.is_encoder_decoder:
        raise ModelError(f"{path} is an encoder-decoder model ({config.model_type}): only decoders can be trained here")
    if _is_bidirectional(config):
        raise ModelError(f"{path} is an encoder ({config.model_type}), which does not write text: take a decoder")
    has_text_part = text is not config
    # The auto classes are mappings whose stubs lack their methods.
    causal: Any = MODEL_FOR_CAUSAL_LM_MAPPING
    multimodal: Any = MODEL_FOR_MULTIMODAL_LM_MAPPING
    if (
        kind in multimodal
        and (has_text_part or kind not in causal)
        and not _is_saved_as_text(config, causal, multimodal)
    ):
        _require_text_alone(path, config, multimodal[kind])
        return AutoModelForMultimodalLM
    if kind in causal or "AutoModelForCausalLM" in (config.to_dict().get("auto_map") or {}):
        return AutoModelForCausalLM
    raise ModelError(f"{path} is no language model: transformers has no causal decoder for {config.model_type!r}")


def quantization(path: str | Path, config: Any) -> Any:
    """Return what makes transformers dequantise a checkpoint while it loads; None for a plain one.

    Raises ModelError for quantised weights that stay so: they cannot be trained, and their packages are many.
    """
    raw = config.to_dict()
    found = raw.get("quantization_config") or text_config(config).to_dict().get("quantization_config")
    if not found:
        return None
    method = str(found.get("quant_method", "unknown"))
    if method not in DEQUANTISED:
        raise ModelError(
            f"{path} is quantised ({method}): such weights cannot be fully fine-tuned; take the model that it was made "
            "from, or a GGUF of it (gguf_file), which is dequantised"
        )
    from transformers.utils.quantization_config import FineGrainedFP8Config, Mxfp4Config

    kind: Any = FineGrainedFP8Config if method == "fp8" else Mxfp4Config
    return kind(**{**found, "dequantize": True})


def without_quantization(model: Any, dtype: Any) -> Any:
    """Return a plain model with the weights of a dequantised one, which would be saved in its old format."""
    import torch

    config = model.config
    for part in (config, text_config(config)):
        part.__dict__.pop("quantization_config", None)
    with torch.device("meta"):
        plain = type(model)(config)
    # On the meta device, where nothing was read, there is nothing to carry over but the names.
    plain.load_state_dict(model.state_dict(), assign=True)
    for name, buffer in model.named_buffers():  # those that no checkpoint holds
        holder, _, short = name.rpartition(".")
        setattr(plain.get_submodule(holder), short, buffer)
    plain.tie_weights()
    if dtype != "auto":  # experts of mxfp4 come out as bf16, whatever was asked for
        for parameter in plain.parameters():
            if parameter.dtype not in (dtype, torch.float32):
                parameter.data = parameter.data.to(dtype)
    plain.generation_config = model.generation_config
    return plain


def freeze_media(model: Any) -> None:
    """Switch gradients off for the parts of a multimodal model that text does not pass, such as its vision tower."""
    if text_config(model.config) is model.config:
        return
    text = [model.get_decoder(), model.get_input_embeddings(), model.get_output_embeddings()]
    trained = {id(parameter) for part in text if part is not None for parameter in part.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in trained:
            parameter.requires_grad_(False)


def require_text(path: str | Path, model: Any) -> None:
    """Raise ModelError for a multimodal model that does not compute by token ids alone."""
    import torch

    if text_config(model.config) is model.config:
        return
    ids_1_2 = torch.tensor([[0, 1]], device=model.device)
    try:
        with torch.inference_mode():
            model(input_ids=ids_1_2, attention_mask=torch.ones_like(ids_1_2), use_cache=False)
    except library_errors() as error:
        raise ModelError(
            f"{path} ({model.config.model_type}) does not work by text alone: {first_line(error)}"
        ) from error


def _is_saved_as_text(config: Any, causal: Any, multimodal: Any) -> bool:
    """Whether a checkpoint with the config of a multimodal model holds its text part alone."""
    kind, saved = type(config), config.architectures or []
    return kind in causal and causal[kind].__name__ in saved and multimodal[kind].__name__ not in saved


def _is_bidirectional(config: Any) -> bool:
    """Whether a model is an encoder such as BERT: its causal class would attend in both directions."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

    masked: Any = MODEL_FOR_MASKED_LM_MAPPING
    if config.model_type in ("xlnet", "bert-generation"):  # which predict by orders of words, or have another head
        return not config.to_dict().get("is_decoder", False)
    return type(config) in masked and not config.to_dict().get("is_decoder", False)


def _require_text_alone(path: str | Path, config: Any, model_class: type) -> None:
    parameters = inspect.signature(model_class.forward).parameters  # type: ignore[attr-defined]
    needed = [
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        and name not in ("self", "input_ids")
    ]
    if needed:
        raise ModelError(f"{path} ({config.model_type}) takes no text without {needed[0]}: it cannot be used here")
