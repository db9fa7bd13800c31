"""Whose answer it is: what an answer depends on besides its request, by which journals are kept apart.

lm_eval keys its response cache by the request alone, so that one model would be given another's answers;
journals (`journal`) take its place.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mmaupro_ext.data import file_sha256
from mmaupro_ext.masking import IN_ADDRESS, SECRET_NAME, masked
from mmaupro_ext.util import sha256_of_text

# In words of a command line: a name and its value.
_NAMED = re.compile(r"""([\w-]+)(["']?\s*[=:]\s*["']?)([^\s,"'}]+)""")
# Where things are and who wrote them says nothing of what they do.
_PLACES = frozenset(
    ("_name_or_path", "name_or_path", "base_model_name_or_path", "_commit_hash", "commit_hash")
    + ("transformers_version", "is_local", "local_files_only", "vocab_file", "tokenizer_file")
)

# Arguments that may name files which change replies; `download_dir` and the like do not.
_OF_A_MODEL = re.compile(r"lora|adapter|tokenizer|template|model")

_SHOWN_LETTERS = 48


def plain(value: Any, without: frozenset[str] = frozenset()) -> Any:
    """Return a value as plain JSON that is the same in every process.

    Parameters
    ----------
    value : object
        Mappings, sequences and numbers stay what they are; things with `to_dict` become mappings,
        all else its `repr`.
    without : frozenset of str
        Keys to leave out at any depth.
    """
    if isinstance(value, Mapping):
        return {
            str(key): plain(part, without)
            for key, part in sorted(value.items(), key=lambda pair: str(pair[0]))
            if str(key) not in without
        }
    if isinstance(value, (list, tuple)):
        return [plain(part, without) for part in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(part, without) for part in value), key=str)
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if hasattr(value, "to_dict") and not isinstance(value, type):
        return plain(value.to_dict(), without)
    return os.fspath(value) if isinstance(value, os.PathLike) else repr(value)


def without_secrets(value: Any) -> Any:
    """Return plain JSON without what its name calls a secret, and without names and queries in addresses."""
    if isinstance(value, dict):
        return {
            key: without_secrets(part) for key, part in value.items() if not SECRET_NAME.match(key)
        }
    if isinstance(value, list):
        return [without_secrets(part) for part in value]
    if isinstance(value, str):
        return masked(IN_ADDRESS.sub("", value))
    return value


def without_secrets_in(word: str) -> str:
    """Return a word of a command line with *** for what it calls a secret, as `name=value` or JSON."""
    hidden = masked(IN_ADDRESS.sub("", word))
    return _NAMED.sub(lambda m: f"{m[1]}{m[2]}***" if SECRET_NAME.match(m[1]) else m[0], hidden)


def digest_of(value: Any) -> str:
    """Return a short digest of settings, wherever they were loaded from: 16 hexadecimal digits."""
    return sha256_of_text(json.dumps(plain(value, _PLACES), sort_keys=True))[:16]


@dataclass(frozen=True)
class Identity:
    """What the answers of a model depend on besides their requests.

    Parameters
    ----------
    fields : dict
        Plain JSON, as `identity_of` makes it.
    """

    fields: dict[str, Any]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the fields, in hexadecimal digits."""
        return sha256_of_text(json.dumps(self.fields, sort_keys=True))

    @property
    def id(self) -> str:
        """The first twelve digits of the digest, which results and messages show."""
        return self.digest[:12]

    def as_dict(self) -> dict[str, Any]:
        """Return what is written beside the results: the id and the fields."""
        return {"id": self.id, **self.fields}


def identity_of(**fields: Any) -> Identity:
    """Return the identity with these fields, and this package's version among them."""
    from mmaupro_ext import __version__

    return Identity(without_secrets(plain({**fields, "mmaupro_ext": __version__})))


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Return where the fields of two identities differ, each as "name: here and there"."""
    here, there = dict(_flat(one)), dict(_flat(other))
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    return [f"{name}: {_short(here.get(name))} and {_short(there.get(name))}" for name in names]


def _flat(fields: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield before + name, value


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_LETTERS else text[: _SHOWN_LETTERS - 1] + "…"


# ---- weights in files ----------------------------------------------------------------------------


def fingerprint_of_files(place: str, revision: str | None = None) -> str:
    """Return what tells the files of a model from others under the same name.

    Parameters
    ----------
    place : str
        A folder or file, or a name on the hub that this machine has downloaded.
    revision : str, optional
        On the hub.

    Returns
    -------
    str
        For a folder or file, a digest of the names and the contents of its files, which are read
        once a machine (`data.file_sha256`). For a name on the hub its commit, which says the same;
        "" where that is not known.
    """
    path = Path(place)
    if path.exists():
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found = {}
        for file in files:
            name = file.relative_to(path if path.is_dir() else path.parent).as_posix()
            hidden = any(part.startswith(".") for part in name.split("/"))
            if file.is_file() and not hidden and file.suffix != ".md":
                found[name] = file_sha256(file.resolve())
        return "files " + sha256_of_text(json.dumps(found, sort_keys=True))[:32]
    from huggingface_hub import try_to_load_from_cache

    try:
        known = try_to_load_from_cache(place, "config.json", revision=revision)
    except ValueError:  # no such name can be
        known = None
    return f"commit {Path(known).parent.name}" if isinstance(known, str) else ""


def fingerprints_within(arguments: Mapping[str, Any]) -> dict[str, str]:
    """Return the fingerprint of each folder or file of adapters, templates, ... that arguments name."""
    return {
        name: fingerprint_of_files(value)
        for name, value in _flat(arguments)
        if _OF_A_MODEL.search(name) and isinstance(value, str) and os.path.exists(value)
    }


# ---- requests ------------------------------------------------------------------------------------


def with_states_of_files(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the arguments of a request with what tells the content of each clip or image.

    Parameters
    ----------
    arguments : tuple
        `Instance.args`; a mapping of media stands third where there are media.

    Returns
    -------
    tuple
        A reference with a digest has no path any more: wherever the file lies, it is the same. In place of
        one by path alone stands a mapping with `state` in it: the file's size in bytes and time of change
        in ns, so that a journal notices another file under the same path.
    """
    if len(arguments) < 3 or not isinstance(arguments[2], Mapping):
        return arguments
    media = {kind: _with_state(value) for kind, value in arguments[2].items()}
    return (*arguments[:2], media, *arguments[3:])


def _with_state(reference: Any) -> Any:
    if isinstance(reference, (list, tuple)):
        return [_with_state(part) for part in reference]
    known = reference if isinstance(reference, Mapping) else {"path": reference}
    if known.get("sha256"):
        return {name: value for name, value in known.items() if name != "path"}
    if not isinstance(known.get("path"), (str, os.PathLike)):
        return reference
    try:
        state = os.stat(known["path"])
    except (OSError, ValueError):  # a text that is no path
        return reference
    return {**known, "path": os.fspath(known["path"]), "state": [state.st_size, state.st_mtime_ns]}
