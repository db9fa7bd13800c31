"""Which transformers class loads a checkpoint, and where its processor comes from."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
import traceback
from collections.abc import Callable, Iterable
from typing import Any

import transformers
from transformers.models.auto import modeling_auto, processing_auto

from mmaupro_ext import features, versions
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.families import ELSEWHERE, REFUSED, Family
from mmaupro_ext.models.families.family import Loading, Writing
from mmaupro_ext.models.media import CHANNELS

logger = logging.getLogger(__name__)

# Tables of transformers that list models which turn speech into text and do nothing else.
_SPEECH_TABLES = (
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_CTC_MAPPING_NAMES",
    "MODEL_FOR_RNNT_MAPPING_NAMES",
    "MODEL_FOR_TDT_MAPPING_NAMES",
)


def _tiny_random(seed: int) -> tuple[str, str]:
    from mmaupro_ext.models import tiny_random

    return str(tiny_random.build(seed)), tiny_random.NOTE


def _nano(seed: int) -> tuple[str, str]:
    from mmaupro_ext.models import nano

    return nano.path(), nano.NOTE


# Names for `pretrained` that need no download: each gives a folder, and what must stand by its scores.
BUILT_IN: dict[str, Callable[[int], tuple[str, str]]] = {
    "tiny-random": _tiny_random,
    "nano": _nano,
}


def loader_for(model_type: str | None, family: Family | None) -> Any:
    """Return the transformers class that loads a model for generation.

    Parameters
    ----------
    model_type : str or None
        `config.model_type`.
    family : Family or None
        The audio family of this type, if it is known.

    Returns
    -------
    type
        With `from_pretrained`.

    Raises
    ------
    ConfigError
        For models that only transcribe, for encoder-decoder models, and for families that this
        transformers does not have or whose packages are missing.
    """
    if family is not None:
        _require(family)
        loader = family.loading.loader
        if isinstance(loader, str):
            loader = getattr(transformers, loader, None)
        if loader is None:
            raise ConfigError(
                f"transformers {transformers.__version__} has no {family.loading.loader}, which models of "
                f"type {model_type!r} need. Install transformers {versions.TESTED['transformers'][0]} or "
                "newer."
            )
        return loader
    _refuse_transcribers(model_type)
    for table, loader in (
        ("MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", "AutoModelForMultimodalLM"),
        ("MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES", "AutoModelForImageTextToText"),
    ):
        if model_type in getattr(modeling_auto, table, {}):
            return getattr(transformers, loader)
    causal = modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    encoder_decoder = modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES
    if model_type in encoder_decoder and model_type not in causal:
        raise ConfigError(
            f"a model of type {model_type!r} has an encoder and a decoder; hf-audio serves "
            "decoder-only models. Use --model hf for its text tasks."
        )
    return transformers.AutoModelForCausalLM


def refuse_elsewhere(pretrained: str, revision: str | None) -> None:
    """Raise ConfigError for a checkpoint that other engines load and transformers does not.

    Before its configuration is loaded, which would ask for trust_remote_code.
    """
    try:
        settings, _ = transformers.PretrainedConfig.get_config_dict(pretrained, revision=revision)
    except (OSError, ValueError):  # loading it will say so
        return
    model_type = settings.get("model_type")
    if model_type in ELSEWHERE:
        raise ConfigError(
            f"hf-audio cannot load a model of type {model_type!r}: {ELSEWHERE[model_type]}. vLLM has classes "
            "of its own for it: use --model vllm-audio, or serve it and use --model openai-audio "
            "(docs/servers.md). Where you have code that runs here: family=FILE.py (docs/models.md)."
        )


def _refuse_transcribers(model_type: str | None) -> None:
    if model_type in REFUSED:
        reason = REFUSED[model_type]
    elif any(model_type in getattr(modeling_auto, table, {}) for table in _SPEECH_TABLES):
        reason = "it transcribes speech and answers no questions"
    else:
        return
    raise ConfigError(
        f"a model of type {model_type!r} cannot take this benchmark: {reason}. Use a model that is "
        "tuned to answer questions about audio (see docs/models.md)."
    )


def read_family(path: str) -> Family:
    """Return the family that a user's file describes, under the name `FAMILY`.

    The file is run as Python: it may define or register whatever loads its model.

    Parameters
    ----------
    path : str
        Of the file.

    Raises
    ------
    ConfigError
        When it cannot be run, or describes none.
    """
    spec = importlib.util.spec_from_file_location("mmaupro_ext_family_of_the_user", path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise ConfigError(f"family={path}: no Python file. Give one that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # it may do anything
        line = traceback.extract_tb(error.__traceback__)[-1]
        raise ConfigError(
            f"family={path} fails with {type(error).__name__}: {error} ({line.filename}, line "
            f"{line.lineno})."
        ) from error
    family = getattr(module, "FAMILY", None)
    if not isinstance(family, Family):
        raise ConfigError(
            f"family={path} has no FAMILY = Family(...): see the example in docs/models.md."
        )
    return family


def require_type(family: Family, model_type: str | None) -> None:
    """Raise ConfigError where a user's family is not for this type of models."""
    if model_type not in family.model_types:
        raise ConfigError(
            f"the FAMILY of family=FILE.py is for models of type {', '.join(family.model_types)}, and the "
            f"checkpoint's config.json says {model_type!r}. Add it to model_types if they are alike."
        )


def _require(family: Family) -> None:
    """Import what the model itself cannot do without: installed is not enough, it must load."""
    missing = []
    for package, why in family.loading.requires:
        try:
            importlib.import_module(package)
        except Exception as error:  # a broken binary may raise anything
            missing.append(f"{package} ({why}; {type(error).__name__}: {error})")
    if missing:
        names = " ".join(package for package, _ in family.loading.requires)
        raise ConfigError(
            f"models of type {family.name!r} need {', '.join(missing)}. Install: pip install {names}"
        )


def fit_family(family: Family, processor: Any) -> Family:
    """Return the family as a checkpoint has it: its window, its limit, its audio token.

    Parameters
    ----------
    family : Family
        As checkpoints of its type usually are.
    processor : transformers.ProcessorMixin
        The checkpoint's processor.
    """
    loading, writing = family.loading, family.writing
    writing = fit_window(writing, loading, getattr(processor, loading.extractor))
    limit = getattr(processor, loading.processor_limit, None) if loading.processor_limit else None
    if limit:
        writing = dataclasses.replace(writing, whole_s=float(limit))
    token = getattr(processor, "audio_token", None)
    if isinstance(token, str) and token != writing.audio_token:
        block = writing.audio_block.replace(writing.audio_token, token)
        writing = dataclasses.replace(writing, audio_token=token, audio_block=block)
    return dataclasses.replace(family, writing=writing)


def fit_window(writing: Writing, loading: Loading, extractor: Any) -> Writing:
    """Return the window of a checkpoint whose extractor hears less at once.

    Parameters
    ----------
    writing : Writing
        With the window that checkpoints of its type usually have.
    loading : Loading
        Says whether the extractor bounds it.
    extractor : object
        The checkpoint's feature extractor; `n_samples` is the longest block that it takes.
    """
    longest = getattr(extractor, "n_samples", None)
    if not loading.extractor_window or not longest:
        return writing
    seconds = longest / extractor.sampling_rate
    whole = seconds if writing.whole_s is None else min(writing.whole_s, seconds)
    return dataclasses.replace(writing, whole_s=whole, window_s=min(writing.window_s, seconds))


def with_quantization(options: dict[str, Any]) -> dict[str, Any]:
    """Return options for `from_pretrained` with those of bitsandbytes where transformers 5 has them.

    Parameters
    ----------
    options : dict
        Given by the user; `load_in_8bit`, `load_in_4bit`, `bnb_...` and `llm_int8_...` among them.

    Returns
    -------
    dict
        With these in `quantization_config`, unless the user gives one.
    """
    mine = {
        name: value
        for name, value in options.items()
        if name in ("load_in_8bit", "load_in_4bit") or name.startswith(("bnb_", "llm_int8_"))
    }
    if not mine or options.get("quantization_config") is not None:
        return options
    rest = {name: value for name, value in options.items() if name not in mine}
    return {**rest, "quantization_config": mine}


def channels_for(wanted: str, config: Any) -> str:
    """Return how a checkpoint takes files with two channels: "mono" or "stereo-as-two".

    Parameters
    ----------
    wanted : str
        One of these, or "auto": what the checkpoint's configuration says under
        `mmaupro_channels`, else "mono".
    config : transformers.PretrainedConfig
        Of the checkpoint.

    Raises
    ------
    ConfigError
        When the word is none of these.
    """
    chosen = getattr(config, "mmaupro_channels", "mono") if wanted == "auto" else wanted
    if chosen not in CHANNELS:
        raise ConfigError(
            f"channels={chosen!r} is unknown. Use one of: auto, {', '.join(CHANNELS)}."
        )
    return str(chosen)


def load_processor(
    source: str, model_types: Iterable[str] = (), **options: Any
) -> tuple[Any, str | None]:
    """Load the processor of a checkpoint, without what this machine has no packages for.

    A feature extractor that cannot be made for want of a package is a native one where there is one.

    Parameters
    ----------
    source : str
        Name on the hub, or a folder.
    model_types : iterable of str
        Names under which transformers may know its processor, to load it in part.
    **options
        For `from_pretrained`; empty values are left out.

    Returns
    -------
    processor : transformers.ProcessorMixin or None
        None for models that have a tokenizer only.
    problem : str or None
        Why it, or some part of it, could not be loaded, if so.
    """
    given = {name: value for name, value in options.items() if value}
    try:
        processor = transformers.AutoProcessor.from_pretrained(source, **given)
    except (OSError, ValueError, ImportError) as error:
        logger.info("no processor from %s: %s", source, error)
        problem = str(error).strip()
        if isinstance(error, OSError):
            return None, problem
        processor = _load_in_part(source, model_types, given)
        whole = processor is not None and all(
            getattr(processor, name) is not None for name in type(processor).get_attributes()
        )
        return processor, None if whole else problem
    # AutoProcessor answers with a bare tokenizer where a model has no processor.
    return (processor if isinstance(processor, transformers.ProcessorMixin) else None), None


# Parts of a processor that audio and text do without.
_DISPENSABLE = ("image_processor", "video_processor")


def _load_in_part(source: str, model_types: Iterable[str], options: dict[str, Any]) -> Any:
    """Return the processor with None or a native extractor for what cannot be loaded here."""
    known = processing_auto.PROCESSOR_MAPPING_NAMES
    names = [known[model_type] for model_type in model_types if model_type in known]
    kind = getattr(transformers, names[0], None) if names else None
    if kind is None:
        return None
    options = {key: value for key, value in options.items() if key != "trust_remote_code"}
    try:
        return _without_missing_parts(kind).from_pretrained(source, **options)
    except (OSError, ValueError, ImportError) as error:
        logger.info("no part of the processor from %s: %s", source, error)
        return None


def _native_extractor(source: str, options: dict[str, Any]) -> Any | None:
    """Return a native feature extractor that does without the packages of the stock one, if any."""
    settings, _ = transformers.FeatureExtractionMixin.get_feature_extractor_dict(source, **options)
    return features.from_settings(settings)


def _without_missing_parts(kind: Any) -> Any:
    """Return a subclass of a processor class that does without the parts that cannot be loaded."""

    def load_parts(cls: Any, source: Any, processor_dict: Any = None, **options: Any) -> list[Any]:
        parts = []
        for name in kind.get_attributes():
            one_part = {"get_attributes": classmethod(lambda _, n=name: [n])}
            alone: Any = type(kind.__name__, (kind,), one_part)
            try:
                parts += alone._get_arguments_from_pretrained(source, processor_dict, **options)
            except (ImportError, ValueError) as error:  # a class that auto classes do not find
                if name in _DISPENSABLE:
                    logger.warning("%s of %s is left out: %s", name, source, str(error).strip())
                    parts.append(None)
                    continue
                native = _native_extractor(source, options)
                if native is None:
                    raise
                logger.info("%s of %s is the native one: %s", name, source, str(error).strip())
                parts.append(native)
        return parts

    def check(self: Any, name: str, part: Any) -> Any:
        if part is None and name in _DISPENSABLE:
            return type(None)
        return kind.check_argument_for_proper_class(self, name, part)

    return type(
        kind.__name__,
        (kind,),
        {
            "__module__": kind.__module__,
            "_get_arguments_from_pretrained": classmethod(load_parts),
            "check_argument_for_proper_class": check,
        },
    )
