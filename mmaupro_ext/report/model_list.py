"""What is known of the audio models that hf-audio describes, as a list and one by one."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Sequence
from os.path import commonprefix
from pathlib import Path

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.families import FAMILIES, REFUSED, Family
from mmaupro_ext.util import nearest

HEADER = ("model type", "hears whole", "tokens of 30 s", "needs beside torch")
_HALF_MINUTE_S = 30


def listing(as_markdown: bool = False) -> str:
    """Return the list: columns for a terminal, or a table for a page."""
    rows = [row(family) for family in families()]
    if as_markdown:
        return markdown(rows)
    refused = f"Refused, because they only transcribe: {', '.join(sorted(REFUSED))}."
    return f"{aligned([HEADER, *rows])}\n\n{refused}"


def families() -> list[Family]:
    """Return each family once, by name."""
    return sorted({id(f): f for f in FAMILIES.values()}.values(), key=lambda f: f.name)


def find(name: str) -> Family:
    """Return the family that a name means.

    Parameters
    ----------
    name : str
        A model type (``"qwen2_audio"``), however it is written; the folder of a checkpoint; or a name on the
        hub that begins with its type (``"Qwen/Qwen2-Audio-7B-Instruct"``).

    Raises
    ------
    ConfigError
        When there is none, with the reason where the type is refused.

    Examples
    --------
    >>> find("Qwen/Qwen2-Audio-7B-Instruct").name
    'qwen2_audio'
    """
    wanted = _model_type_in(name) or name.rstrip("/").rpartition("/")[2]
    types = {_plain(model_type): model_type for model_type in (*FAMILIES, *REFUSED)}
    # The longest first: Granite Speech Plus is no Granite Speech.
    for plain in sorted(types, key=len, reverse=True):
        if _plain(wanted).startswith(plain):
            found = types[plain]
            if found in REFUSED:
                raise ConfigError(f"models of type {found!r} are refused: {REFUSED[found]}.")
            return FAMILIES[found]
    begin = [types[plain] for plain in types if len(commonprefix([plain, _plain(wanted)])) >= 5]
    hint = f" The nearest: {', '.join(begin)}." if begin else nearest(wanted, types.values())
    raise ConfigError(
        f"{name!r} is not described here.{hint} Its processor may still serve the generic way: try "
        f"`mmaupro doctor --model_args pretrained={name}`. `mmaupro models` lists all."
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _model_type_in(folder: str) -> str | None:
    """Return the model type of a checkpoint on this machine, None where the name is no such folder."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        return str(config["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def row(family: Family) -> tuple[str, ...]:
    """Return what the list says of a family."""
    writing = family.writing
    return (
        ", ".join(family.model_types),
        "any length" if writing.whole_s is None else f"{writing.whole_s:g} s",
        str(sum(writing.count_tokens([_HALF_MINUTE_S * writing.sampling_rate]))),
        ", ".join(package for package, _ in family.loading.requires) or "nothing",
    )


def describe(family: Family) -> str:
    """Return everything that is known of a family, as text."""
    writing = family.writing
    lines = [
        f"{' / '.join(family.model_types)}: transformers.{family.loading.loader}",
        f"  a clip in the prompt    {family.writing.audio_block!r}",
        f"  its token               {family.writing.audio_token!r}, {row(family)[2]} for 30 s",
        f"  hears whole             {row(family)[1]}; windows of {family.writing.window_s:g} s",
        f"  shortest block          {1e3 * writing.min_samples / writing.sampling_rate:g} ms, silence added",
        "  choices                 "
        + ("scored on the prompt's cache" if family.loading.shared_prefix else "a whole pass each"),
    ]
    for package, why in family.loading.requires:
        lines.append(f"  needs                   {package}: {why}")
    for note in family.notes:
        lines += textwrap.wrap(note, 100, initial_indent="  - ", subsequent_indent="    ")
    return "\n".join(lines)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as a table of Markdown."""
    lines = [HEADER, ("---", "---:", "---:", "---"), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as columns."""
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
        for cells in rows
    )
