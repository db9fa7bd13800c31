"""nano: a small Qwen2-Audio of our own that hears, shipped with the package (see README.md)."""

from __future__ import annotations

from pathlib import Path

NAME = "nano"
NOTE = "nano is trained on synthetic sounds only: its scores say nothing about MMAU-Pro"


def path() -> str:
    """Return the folder of the shipped checkpoint, which `from_pretrained` loads.

    Returns
    -------
    str
        Absolute path.

    Raises
    ------
    FileNotFoundError
        When the weights are not there.
    """
    folder = Path(__file__).resolve().parent / "checkpoint"
    if not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(
            f"{folder} has no weights; reinstall mmaupro-ext, or make them with "
            f"`python -m nano_training.train --out {folder}`"
        )
    return str(folder)
