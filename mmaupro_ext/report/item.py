"""One item of a dataset, and what a model hears of its clips: the facts that `mmaupro data show` shows.

`item_text` writes them and `item_figure` draws them.
"""

from __future__ import annotations

import difflib
import os
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO
from mmaupro_ext.data import text
from mmaupro_ext.data.items import all_documents
from mmaupro_ext.data.load import audio_root
from mmaupro_ext.data.safe import stat_clip
from mmaupro_ext.data.schema import Doc
from mmaupro_ext.errors import AudioError, ConfigError, DataError
from mmaupro_ext.models.families import FAMILIES
from mmaupro_ext.models.families.family import Writing
from mmaupro_ext.models.windows import NO_LIMIT, LongAudio, Recording


@dataclass(frozen=True)
class Hearing:
    """How a family of models hears.

    Parameters
    ----------
    name : str
        `config.model_type` of the family.
    writing : Writing
        What `models.families` says of it: `sampling_rate`, `whole_s`.
    policy : LongAudio
        What is done with clips that it does not take whole.
    """

    name: str
    writing: Writing
    policy: LongAudio

    @property
    def window_s(self) -> float | None:
        """The longest window in seconds that it is given; None for whole clips."""
        return self.writing.whole_s if self.policy.policy == "auto" else self.policy.window_s


@dataclass(frozen=True)
class Item:
    """What is shown of an item.

    Parameters
    ----------
    doc : dict
        The item.
    hearing : Hearing
        Of the model.
    clips : list of dict
        What `describe_clips` says of each clip.
    """

    doc: Doc
    hearing: Hearing
    clips: list[dict[str, Any]]

    @property
    def usable(self) -> bool:
        """Whether the row is sound and every clip of it can be used to its end."""
        return "problem" not in self.doc and not any("problem" in clip for clip in self.clips)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {"item": self.doc, "model": self.hearing.name, "clips": self.clips}


def show(
    wanted: str,
    data_dir: str | os.PathLike[str] | None = None,
    sample: bool = False,
    *,
    model: str = "qwen2_audio",
    window_s: float | None = None,
    name: str = MMAUPRO,
) -> Item:
    """Return an item and what a model hears of it.

    Parameters
    ----------
    wanted, data_dir, sample, name
        As for `find_item`.
    model : str
        `config.model_type` of a family (`mmaupro models` lists them).
    window_s : float, optional
        Windows of at most so many seconds, as `long_audio=windows` with this `window_s` gives them.
        By default the model is given what `long_audio=auto` gives it: whole clips as far as it
        takes them, else equal windows.

    Returns
    -------
    Item
        The row and its clips; a clip that cannot be used has a `problem`.

    Raises
    ------
    ConfigError
        For an item or a model that is unknown.
    DataError
        When there is no dataset.
    """
    hearing = hearing_of(model, window_s)
    doc = find_item(wanted, data_dir, sample, name)
    return Item(doc, hearing, describe_clips(doc, hearing))


# --- finding the item --------------------------------------------------------------------------


def find_item(
    wanted: str,
    data_dir: str | os.PathLike[str] | None = None,
    sample: bool = False,
    name: str = MMAUPRO,
) -> Doc:
    """Return the item with an id, a unique beginning of an id, or a clip of this name.

    Parameters
    ----------
    wanted : str
        Id, beginning of an id, or path, name or stem of a clip.
    data_dir, sample
        As for `load_category`.
    name : str
        Key of `benchmarks.BENCHMARKS`.

    Returns
    -------
    dict
        The document.

    Raises
    ------
    ConfigError
        When there is no such item, or several; the message suggests ids.
    DataError
        When there is no dataset.
    """
    wanted = wanted.strip()
    _, docs = all_documents(name, data_dir, sample)
    exact = [doc for doc in docs if doc["id"] == wanted]
    by_beginning = [doc for doc in docs if wanted and doc["id"].lower().startswith(wanted.lower())]
    by_clip = [doc for doc in docs if any(_names(path, wanted) for path in doc["audio_path"])]
    for found in (exact, by_beginning, by_clip):
        if len(found) == 1:
            return found[0]
        if found:
            shown = "\n".join(f"  {_line(doc)}" for doc in found[:10])
            more = f"\n  ... and {len(found) - 10:,} more" if len(found) > 10 else ""
            raise ConfigError(
                f"{wanted!r} fits {len(found):,} items; write more of the id:\n{shown}{more}"
            )
    raise ConfigError(_unknown(wanted, docs, sample, name))


def _names(path: str, wanted: str) -> bool:
    clip = Path(path)
    return wanted in (path, clip.name, clip.stem)


def _line(doc: Doc) -> str:
    return text.visible(f"{doc['id']}  {doc['category']}: {textwrap.shorten(doc['question'], 60)}")


def _unknown(wanted: str, docs: list[Doc], sample: bool, name: str) -> str:
    """Return a message about an unknown id with the nearest ids, or where else it is."""
    title = BENCHMARKS[name].title
    where = f"the sample of {title}" if sample else title
    by_id = {doc["id"]: doc for doc in docs}
    # The beginning is what people type, so the beginnings are compared.
    beginnings = {identifier[: max(len(wanted), 4)]: identifier for identifier in by_id}
    near = difflib.get_close_matches(wanted.lower(), list(beginnings), n=3, cutoff=0.6)
    lines = [f"no item of {where} has the id {wanted!r}."]
    if near:
        lines += ["Did you mean", *(f"  {_line(by_id[beginnings[one]])}" for one in near)]
    else:
        lines += ["Ids look like", *(f"  {_line(doc)}" for doc in docs[:3])]
    if not sample and wanted and _in_sample(wanted, name):
        lines.append("The embedded sample has it: add --sample.")
    return "\n".join(lines)


def _in_sample(wanted: str, name: str) -> bool:
    try:
        find_item(wanted, sample=True, name=name)
    except (ConfigError, DataError):
        return False
    return True


# --- what is heard -----------------------------------------------------------------------------


def hearing_of(model: str, window_s: float | None = None) -> Hearing:
    """Return how a model hears.

    Parameters
    ----------
    model, window_s
        As for `show`.

    Raises
    ------
    ConfigError
        When no family of this name is described.
    """
    if model not in FAMILIES:
        near = difflib.get_close_matches(model, list(FAMILIES), n=3) or sorted(FAMILIES)
        raise ConfigError(
            f"--model {model}: no family of this name is described. Use one of `mmaupro models`, "
            f"such as {', '.join(near)}."
        )
    policy = LongAudio("auto") if window_s is None else LongAudio("windows", window_s)
    return Hearing(FAMILIES[model].name, FAMILIES[model].writing, policy)


def describe_clips(doc: Doc, hearing: Hearing) -> list[dict[str, Any]]:
    """Decode each clip to its end and say what it is and what a model hears of it.

    Parameters
    ----------
    doc : dict
        The item.
    hearing : Hearing
        Of the model.

    Returns
    -------
    list of dict
        In clip order: `path`, `file`; of a clip that can be used `seconds`, `sampling_rate` (Hz),
        `channels`, `format`, `subtype`, `heard_channels`, and `windows` (list of [start, end] in
        seconds of the clip); otherwise `problem`.
    """
    root = audio_root(doc)
    described: list[dict[str, Any]] = []
    for relative in doc["audio_path"]:
        clip: dict[str, Any] = {"path": relative, "file": str(root / relative)}
        try:
            stat_clip(root, relative)
            clip |= _heard(root / relative, hearing)
        except AudioError as error:
            clip["problem"] = str(error)
        except OSError as error:
            clip["problem"] = f"{root / relative}: {error.strerror}"
        described.append(clip)
    return described


def _heard(path: Path, hearing: Hearing) -> dict[str, Any]:
    from mmaupro_ext import audio

    rate = hearing.writing.sampling_rate
    decoded = audio.decode(path, sampling_rate=rate)
    info, recording = decoded.info, Recording(len(decoded.samples), rate)
    (planned,) = hearing.policy.plan([recording], hearing.writing, NO_LIMIT)
    return {
        "seconds": round(info.seconds, 4),
        "sampling_rate": info.sampling_rate,
        "channels": info.channels,
        "format": info.format,
        "subtype": info.subtype,
        "heard_channels": 1,
        "windows": [[round(start / rate, 4), round(end / rate, 4)] for start, end in planned.spans],
    }
