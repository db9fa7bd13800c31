"""What is asked for, looked at before a checkpoint is loaded: one line says what is wrong."""

from __future__ import annotations

import difflib
import inspect
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from lm_eval.models.huggingface import HFLM

from mmaupro_ext.errors import ConfigError, MMAUProError
from mmaupro_ext.models.hf import loading
from mmaupro_ext.util import arguments_of, refuse_unknown

_CONFIG = "config.json"
# Of bitsandbytes, which `loading.with_quantization` knows.
_QUANTIZING = ("bnb_", "llm_int8_", "load_in_")
# How alike an argument must be to one that is known to be taken for it, where all that are not known
# may be settings of a configuration that is not here yet.
_ALIKE = 0.8


def before_loading(cls: type, pretrained: Any, given: Mapping[str, Any], device: Any) -> str:
    """Check what a model is to be made with, and return its device.

    Parameters
    ----------
    cls : type
        The model class.
    pretrained : str or transformers.PreTrainedModel
        The checkpoint.
    given : mapping
        Arguments that the class does not name.
    device : str or None
        None: CUDA where there is one, else the CPU. So does `cuda:0` where there is none: lm_eval's command
        says that, too, where `--device` was left out.

    Raises
    ------
    ConfigError
        When something is not there, or not known.
    """
    if isinstance(pretrained, str):
        check_checkpoint(pretrained)
    check_arguments(cls, pretrained, given)
    check_values(given)
    if device is None or (str(device) == "cuda:0" and not torch.cuda.is_available()):
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(str(device))
    return device


def check_checkpoint(pretrained: str) -> None:
    """Raise ConfigError for a path where no checkpoint is; names on the hub pass."""
    path = Path(pretrained)
    if path.is_dir():
        if not (path / _CONFIG).exists():
            found = sorted(entry.parent.name for entry in path.glob(f"*/{_CONFIG}"))
            inside = f" Checkpoints in it: {', '.join(found[-5:])}." if found else ""
            raise ConfigError(f"{pretrained}: the folder holds no {_CONFIG}.{inside}")
    elif path.exists():
        raise ConfigError(f"{pretrained} is a file: give the folder of the checkpoint.")
    elif _is_path(pretrained):
        raise ConfigError(f"{pretrained}: there is no such folder.{_beside(path)}")


def _is_path(pretrained: str) -> bool:
    """Tell whether a name can only be a path: the hub has OWNER/NAME."""
    return (
        os.path.isabs(pretrained)
        or pretrained.startswith((".", "~"))
        or pretrained.count("/") > 1
        or pretrained.endswith("/")
        or os.sep != "/"
        and os.sep in pretrained
    )


def _beside(path: Path) -> str:
    """Return what is there instead: names like the first one that is missing."""
    missing = path
    while not missing.parent.is_dir() and missing.parent != missing:
        missing = missing.parent
    try:
        names = [entry.name for entry in missing.parent.iterdir() if entry.is_dir()]
    except OSError:
        names = []
    near = difflib.get_close_matches(missing.name, names, n=3)
    is_path = missing != path and _is_path(str(path))
    where = f" {missing} is not there either." if is_path else ""
    return where + (f" Nearest in {missing.parent}: {', '.join(near)}." if near else "")


def not_to_be_had(pretrained: str, error: Exception) -> ConfigError:
    """Return the error of a checkpoint whose configuration transformers cannot read."""
    reason = next((line for line in str(error).splitlines() if line.strip()), repr(error))
    near = difflib.get_close_matches(pretrained, loading.BUILT_IN, n=1)
    beside = f" Built in: {near[0]}." if near else _beside(Path(pretrained))
    if Path(pretrained).exists():
        beside = ""
    return ConfigError(
        f"{pretrained}: {reason.rstrip('. ')}.{beside} A folder must hold the checkpoint; a name on the hub "
        "must be spelled as there, be downloaded or within reach, and HF_TOKEN set where it is gated."
    )


@contextmanager
def loading_from(pretrained: Any, weights: bool = False) -> Iterator[None]:
    """Make one sentence of what transformers says of a checkpoint that it cannot load.

    Parameters
    ----------
    pretrained : str or transformers.PreTrainedModel
        The checkpoint, as messages name it.
    weights : bool
        Whether weights are loaded, on which other libraries fail in ways of their own.

    Raises
    ------
    ConfigError
        In place of what was raised inside; what is raised on purpose goes through as it is.
    """
    try:
        yield
    except MMAUProError:
        raise
    except torch.cuda.OutOfMemoryError as error:
        raise ConfigError(
            f"{pretrained}: the weights do not fit into the memory of the device. Add dtype=bfloat16, or "
            "spread them over several with parallelize=True."
        ) from error
    except Exception as error:
        if not weights:
            if isinstance(error, OSError):
                raise not_to_be_had(pretrained, error) from error
            raise
        said = next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__
        raise ConfigError(
            f"{pretrained}: its weights cannot be loaded ({type(error).__name__}: {said}). Where a file is "
            "damaged or missing, get the checkpoint again; where arguments of the model are at fault, leave "
            "them out."
        ) from error


def check_values(given: Mapping[str, Any]) -> None:
    """Raise ConfigError for a dtype or a batch size that cannot be meant."""
    dtype = given.get("dtype")
    if isinstance(dtype, str) and dtype != "auto":
        names = [name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)]
        if dtype.removeprefix("torch.") not in names:
            usual = "auto, bfloat16, float16, float32"
            raise ConfigError(f"dtype={dtype}: there is no such type. Usual ones: {usual}.")
    size = str(given.get("batch_size", 1)).partition(":")
    counts = size[2:] if size[0] == "auto" else size[:1]
    if not all(
        count == "" and size[0] == "auto" or count.isdecimal() and int(count) for count in counts
    ):
        raise ConfigError(
            f"batch_size={given['batch_size']}: give a whole number of 1 or more, or auto."
        )


def check_device(device: str) -> None:
    """Raise ConfigError for a device that this machine does not have."""
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise ConfigError(
            f"--device {device}: there is no such kind of device. Some that there are: cpu, cuda, cuda:1, "
            "mps, xpu."
        ) from None
    if wanted.type == "cpu":
        return
    there = torch.backends.mps if wanted.type == "mps" else getattr(torch, wanted.type, None)
    if there is None or not there.is_available():
        built = (
            f"torch {torch.__version__} finds none"
            if there is not None
            else f"torch {torch.__version__} knows none"
        )
        raise ConfigError(
            f"--device {device}: there is no such device here ({built}). Leave --device out to use what is "
            "there, or install the torch of this machine's accelerator."
        )
    count = there.device_count() if hasattr(there, "device_count") else 1
    if (wanted.index or 0) >= count:
        last = f"{wanted.type}:{count - 1}"
        raise ConfigError(f"--device {device}: the last of {count} devices is {last}.")


def check_arguments(cls: type, pretrained: Any, given: Iterable[str]) -> None:
    """Raise ConfigError for arguments that nobody knows, with the nearest ones.

    Parameters
    ----------
    cls : type
        The model class.
    pretrained : str or transformers.PreTrainedModel
        The checkpoint: `from_pretrained` takes settings of its configuration as arguments.
    given : iterable of str
        Arguments that the class does not name. Where the configuration is not on this machine yet, only
        those that look like a known one are refused.
    """
    of_loading = _arguments_of_loading()
    known = [*arguments_of(cls), *arguments_of(HFLM), *of_loading]
    unknown = [n for n in given if n not in known and not n.startswith(_QUANTIZING)]
    if not unknown:
        return
    config = _config_here(pretrained)
    if config is not None:
        unknown = [name for name in unknown if not hasattr(config, name)]
    sure = config is not None and of_loading
    refuse_unknown("hf-audio", unknown, known, alike=0.0 if sure else _ALIKE)


def _arguments_of_loading() -> Sequence[str]:
    """Return the arguments of `from_pretrained`, which its signature names in part."""
    names: set[str] = set()
    for loader in (transformers.PreTrainedModel, transformers.AutoModel):
        try:
            source = inspect.getsource(loader.from_pretrained)
        except (OSError, TypeError):  # no sources at hand
            return ()
        names.update(inspect.signature(loader.from_pretrained).parameters)
        names.update(re.findall(r'kwargs\.(?:pop|get)\(\s*"([a-z]\w*)"', source))
    return sorted(names)


def _config_here(pretrained: Any) -> Any:
    """Return the configuration of a checkpoint without a network; None where it is not here."""
    if not isinstance(pretrained, str):
        return getattr(pretrained, "config", None)
    try:
        return transformers.AutoConfig.from_pretrained(pretrained, local_files_only=True)
    except Exception:  # not here, of an unknown type, or code that is not trusted yet
        return None
