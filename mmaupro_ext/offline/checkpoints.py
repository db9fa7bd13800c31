"""Checkpoints of embedders: where they are, what is in their files, and the digest of their weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import sha256_of_file, sha256_of_text, stat_regular


def local_folder(source: str, revision: str | None) -> Path:
    """Return the folder of a checkpoint, fetched from the hub where `source` is no folder here.

    Raises
    ------
    ConfigError
        When it cannot be had, or is no checkpoint.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        # Only what the classes above read; a repository may hold the weights in five formats.
        folder = _download(source, revision, ["*.json", "*.txt", "*.model", "*.safetensors"])
        if not any(folder.glob("*.safetensors")):
            folder = _download(source, revision, ["pytorch_model*.bin"])
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder}: there is no config.json. Give the folder of a checkpoint")
    return folder


def _download(source: str, revision: str | None, patterns: list[str]) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if source.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", source):
        raise ConfigError(f"{source}: there is no such folder")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                source,
                revision=revision,
                allow_patterns=patterns,
                ignore_patterns=["onnx/*", "openvino/*"],
            )
        )
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise ConfigError(
            f"{source} is no folder here, and cannot be had from the hub ({error}). Fetch it where "
            f"there is a network with `hf download {source} --local-dir FOLDER`, and give the "
            "folder"
        ) from error


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in a JSON file; ConfigError where there is none."""
    try:
        stat_regular(file)
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read as JSON ({error}). Fetch it again") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: holds no JSON object. Fetch it again")
    return content


def weights_digest(folder: Path) -> tuple[str, list[Path]]:
    """Return one SHA-256 over all weight files, and the files."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise ConfigError(
            f"{folder}: there are no weights (*.safetensors). Fetch the checkpoint again, whole"
        )
    return combined_sha256({file.name: _content_sha256(file) for file in files}), files


def _content_sha256(file: Path) -> str:
    # The hub's own cache names large files after their SHA-256, which saves reading 16 GB.
    stored = file.resolve().name
    if file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", stored):
        return stored
    return sha256_of_file(file)


def combined_sha256(digests: Mapping[str, str]) -> str:
    """Return one SHA-256 for several files, from their names and digests."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return sha256_of_text(lines)


def digest_of(files: Iterable[Path]) -> str:
    """Return one SHA-256 for those of the files that exist."""
    return combined_sha256({file.name: _content_sha256(file) for file in files if file.is_file()})
