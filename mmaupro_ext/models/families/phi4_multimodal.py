"""Phi-4-multimodal (Abouelenin et al. 2025, arXiv:2503.01743), as transformers has it by itself."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator
from types import MethodType
from typing import TYPE_CHECKING, Any

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.families import adapters
from mmaupro_ext.models.families.family import Family, Loading, Writing, each

if TYPE_CHECKING:
    import torch

HOP_LENGTH = 160  # samples at 16 kHz
WIN_LENGTH = 400
REDUCTION = 8  # frames of 10 ms for each token

# Name of each LoRA -> its folder in the checkpoint.
OWN = {"speech": "speech-lora", "vision": "vision-lora"}

WITHOUT_ADAPTERS = (
    "LoRAs of this Phi-4 checkpoint are not in use ({missing}), because peft is missing or their "
    "folders are: answers on such media are worse than the model's, text is not affected "
    "(pip install peft)"
)


def audio_tokens(samples: int) -> int:
    """Return how many audio tokens a block of so many samples at 16 kHz takes: 12.5 a second."""
    frames = (samples - WIN_LENGTH) // HOP_LENGTH + 1
    return -(-frames // REDUCTION)


def mend(model: Any) -> str | None:
    """Mend the audio encoder and load the checkpoint's LoRAs; say if some are missing."""
    base = adapters.base(model)
    encoder = base.model.embed_tokens_extend.audio_embed.encoder
    sys.modules[type(encoder).__module__].unfold_tensor = unfold  # type: ignore[attr-defined]
    for name in ("forward_embeddings", "calculate_hs_mask"):
        setattr(encoder, name, MethodType(_adding_minus_infinity(getattr(encoder, name)), encoder))
    base.prepare_inputs_for_generation = _starting_anew_at_the_limit(
        base.prepare_inputs_for_generation, rope_limit(base.config)
    )
    # A placeholder in a reply would ask for features once more: the stock model stops with an error.
    placeholders = (
        base.config.audio_config.audio_token_id,
        base.config.vision_config.image_token_id,
    )
    base.generation_config.suppress_tokens = list(placeholders)
    missing = [name for name in OWN if not _load(base, name)]
    return WITHOUT_ADAPTERS.format(missing=", ".join(missing)) if missing else None


def unfold(tensor: torch.Tensor, length: int) -> torch.Tensor:
    """Cut `(batch, time, channels)` into consecutive pieces: `(batch * pieces, length, channels)`.

    A remainder is dropped, as in the stock function, whose callers pad before.
    """
    pieces = tensor.shape[1] // length
    return tensor[:, : pieces * length].reshape(-1, length, tensor.shape[2])


def _adding_minus_infinity(stock: Any) -> Any:
    """Return a method like a stock one, with masks that can be added to attention scores.

    The encoder adds the mask to its bias of relative positions: of a boolean one that is 1 for
    audio and 0 for padding, and padding is attended to.
    """

    def masked(self: Any, *arguments: Any) -> Any:
        found = stock(*arguments)
        bias = self.relative_attention_bias_layer.bias_values.weight
        if isinstance(found, tuple):
            hidden_states, mask, lengths = found
            return hidden_states, _additive(mask, bias.dtype), lengths
        return _additive(found, bias.dtype)

    return masked


def _starting_anew_at_the_limit(stock: Any, limit: int | None) -> Any:
    """Return a method like the stock one that reads all again where LongRoPE changes its factors.

    There the stock one gives up the cache, as it must, and then passes on the last token alone.
    """
    import torch

    @functools.wraps(stock)  # generate() looks at its parameters
    def prepare(input_ids: Any, past_key_values: Any = None, **options: Any) -> Any:
        known = 0 if past_key_values is None else past_key_values.get_seq_length()
        if limit is not None and 0 < known <= limit < input_ids.shape[1]:
            past_key_values = None
            options["next_sequence_length"] = None
            mask = options.get("attention_mask")
            if mask is None:
                mask = torch.ones_like(input_ids)
            options["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)
        return stock(input_ids, past_key_values=past_key_values, **options)

    return prepare


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    import torch

    if mask.dtype != torch.bool:  # of a model that is mended already
        return mask
    # Half the least number: a bias is added, and a row without audio must stay a number.
    least = torch.finfo(dtype).min / 2
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(~mask, least)


def _load(base: Any, name: str) -> bool:
    """Load one LoRA of the checkpoint, unless it is there; tell whether it is."""
    if name in adapters.names(base):
        return True
    place: dict[str, Any] = {
        "subfolder": OWN[name],
        "revision": getattr(base.config, "_commit_hash", None),
    }
    from transformers.utils import find_adapter_config_file

    try:
        import peft  # noqa: F401
    except ImportError:
        return False
    if not base.name_or_path or find_adapter_config_file(base.name_or_path, **place) is None:
        return False
    with _without_load_report():
        found = base.load_adapter(base.name_or_path, adapter_name=name, adapter_kwargs=place)
    lost = sorted(key for key in found.missing_keys if f".{name}." in key)
    if lost:
        raise ConfigError(
            f"{OWN[name]} of {base.name_or_path} has no weights for {lost[0]} and {len(lost) - 1} more"
        )
    return True


@contextlib.contextmanager
def _without_load_report() -> Iterator[None]:
    """Keep transformers from reporting all that an adapter does not hold as newly initialized."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def switch_adapters(model: Any, kinds: frozenset[str]) -> None:
    """Let the vision LoRA work where there are images, else the speech LoRA where there is audio."""
    wanted = {"vision"} if "visual" in kinds else {"speech"} if "audio" in kinds else set()
    adapters.let_work(model, wanted & adapters.names(model), OWN)


def rope_limit(config: Any) -> int | None:
    """Return how many positions the short factors of LongRoPE are for."""
    rope = config.rope_parameters
    return rope["original_max_position_embeddings"] if rope["rope_type"] == "longrope" else None


PHI4_MULTIMODAL = Family(
    model_types=("phi4_multimodal",),
    writing=Writing(
        audio_block="<|audio|>",
        audio_token="<|audio|>",
        count_tokens=each(audio_tokens),
        whole_s=None,
        min_samples=WIN_LENGTH,
    ),
    loading=Loading(
        loader="Phi4MultimodalForCausalLM",
        extractor="audio_processor",
        rope_limit=rope_limit,
        adapt_model=mend,
        before_forward=switch_adapters,
    ),
    notes=(
        "The hub's main revision is for its own code and model type (phi4mm); the files for the class of "
        "transformers are in refs/pr/70 (transformers' tests/models/phi4_multimodal): revision=refs/pr/70.",
        "The processor of transformers 5.23 drops its chat template (its __init__ takes it in **kwargs, "
        "which from_pretrained does not look at); the tokenizer has the same one.",
        "The stock encoder cuts audio beyond 40 s into pieces, which fails for several clips at once "
        "(`unfold_tensor` in modeling_phi4_multimodal.py views a permuted tensor; vLLM's "
        "phi4mm_utils.py makes it contiguous first). Mended.",
        "The stock encoder adds a boolean mask to attention scores, so that clips beside a longer one "
        "attend to its padding; the model's first code masks it (`masked_softmax` in vLLM's "
        "phi4mm_utils.py). Mended; a clip alone has no padding and is as before.",
        "A reply across original_max_position_embeddings (4096) goes on without what came before it in "
        "the stock class: prepare_inputs_for_generation gives up the cache, and generate() of transformers "
        "5 passes on the last token alone. Mended: the prompt is read again.",
        "Which LoRA works for which media is as in the model's first code (modeling_phi4mm.py): vision "
        "for images, with or without audio; speech for audio; none for text.",
        "The LoRAs need peft; without it answers on audio and images are worse, and the results say so. "
        "Images need torchvision.",
        "Frames that hold only a part of a window at the end of a clip are dropped (up to 10 ms).",
    ),
)
