"""One line of a samples file: the item that was asked, and its reply, if they are what they should be.

Nothing here imports lm_eval. A line that cannot be used stops with `ScoringError`, naming file and line.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmaupro_ext import benchmarks, recipes
from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO
from mmaupro_ext.data.conditions import CONDITIONS
from mmaupro_ext.data.questions import is_asked_in
from mmaupro_ext.offline.logged_files import LoggedFile
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.util import sha256_of_text, stat_regular

REPLY_FIELDS = ("resps", "filtered_resps")

Doc = dict[str, Any]


@dataclass(frozen=True)
class Item:
    """One logged reply.

    Attributes
    ----------
    doc : dict
        The document that was asked.
    reply : str
        The model's reply, raw, or an error reply.
    finish : str or None
        Why the reply ended ("stop", "length", "error"), where the log says so.
    doc_hash : str
        lm_eval's SHA-256 of the document.
    clips : tuple of str or None
        SHA-256 of each clip as it was heard, else as the dataset states it.
    deviations : tuple of str
        What was not asked as the benchmark asks it, in clauses.
    where : str
        File and line.
    asks_for : {"letter", "text", "own"}
        What the prompt of its task asks for, if it is multiple choice.
    prompt : str
        What the model was asked, without its chat template where lm_eval adds that later; "" where it
        was not logged.
    prompt_hash : str
        lm_eval's SHA-256 of it.
    heard : dict or None
        The record of what was heard (`heard.record`).
    files : tuple of str
        Paths of the clips as the run read them; empty where they were not logged.

    A document that was asked under a condition (`data.conditions`) says so itself.
    """

    doc: Doc
    reply: str
    finish: str | None = None
    doc_hash: str = ""
    clips: tuple[str | None, ...] = ()
    deviations: tuple[str, ...] = ()
    where: str = ""
    asks_for: str = "letter"
    prompt: str = ""
    prompt_hash: str = ""
    heard: Mapping[str, Any] | None = None
    files: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Id of the document."""
        return str(self.doc["id"])

    @property
    def kind(self) -> str:
        """How it is answered and scored: closed, open, instruction or hidden."""
        return benchmarks.of(self.doc).by_value[self.doc["category"]].kind


def digest(items: Sequence[Item], replies: bool) -> str:
    """Return a SHA-256 over the items, whatever their order.

    Parameters
    ----------
    items : sequence of Item
        The items.
    replies : bool
        Whether the replies go in as well as the documents.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    lines = sorted(
        json.dumps([item.id, item.doc_hash, item.reply if replies else None]) for item in items
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def document_hash(doc: Mapping[str, Any]) -> str:
    """Return the SHA-256 that lm_eval logs for a plain JSON document."""
    return sha256_of_text(json.dumps(doc, indent=2, ensure_ascii=False))


def read_items(file: LoggedFile, reply_field: str) -> Iterator[Item]:
    """Read the items of a samples file.

    Parameters
    ----------
    file : LoggedFile
        As lm_eval wrote it.
    reply_field : {"resps", "filtered_resps"}
        The field that holds the reply.

    Yields
    ------
    Item

    Raises
    ------
    ScoringError
        When the file cannot be read, or a line is not what it should be.
    """
    try:
        stat_regular(file.path)
        lines = file.path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ScoringError(f"{file.path}: cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _item(line, f"{file.path}, line {number}", file, reply_field)


def _item(line: str, where: str, file: LoggedFile, reply_field: str) -> Item:
    try:
        sample = json.loads(line)
    except json.JSONDecodeError as error:
        raise ScoringError(f"{where}: not JSON ({error}). Was the file cut off?") from error
    if not isinstance(sample, dict):
        raise ScoringError(f"{where}: not a sample of lm_eval but {type(sample).__name__}")
    doc = sample.get("doc")
    _require_document(doc, file.asked.benchmark, where)
    assert isinstance(doc, dict)
    category = BENCHMARKS[file.asked.benchmark].by_slug[file.asked.part].value
    for key, wanted, name in (
        ("category", category, "category"),
        ("dataset", file.dataset, "dataset"),
        ("benchmark", file.asked.benchmark, "benchmark"),
        ("prompt", file.asks_for, "prompt"),
    ):
        if doc.get(key, wanted) != wanted:
            raise ScoringError(
                f"{where}: an item of {name} {doc[key]!r} in the file of {wanted!r}. The file was renamed "
                "or mixed"
            )
    doc_hash = sample.get("doc_hash")
    if doc_hash != document_hash(doc):
        raise ScoringError(
            f"{where}: the document (id {doc['id']}) is not the one that was asked: its hash differs "
            "from doc_hash. The file was changed after the run"
        )
    reply = _reply(sample, where, reply_field)
    given = _given(sample, doc, where)
    stated_clips = doc.get("audio_sha256") or [None] * len(doc["audio_path"])
    clips = tuple(
        clip.get("sha256") or promised for clip, promised in zip(given, stated_clips, strict=True)
    )
    deviations = (
        () if doc.get("problem") else tuple(_not_as_asked(sample, doc, given, file.asks_for))
    )
    finish = _finish(sample)
    record, prompt = sample.get("heard"), _arguments(sample).get("arg_0")
    return Item(
        doc,
        reply,
        finish,
        doc_hash,
        clips or (),
        deviations,
        where,
        file.asks_for,
        prompt=prompt if isinstance(prompt, str) else "",
        prompt_hash=str(sample.get("prompt_hash") or ""),
        heard=record if isinstance(record, dict) else None,
        files=tuple(str(clip["path"]) for clip in given if clip.get("path")),
    )


# --- the document --------------------------------------------------------------------------------


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_text_or_none(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_texts_by_name(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text_or_none, value.values()))


def _is_condition(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.get("name") in CONDITIONS
        and isinstance(value.get("variant"), str)
        and isinstance(value.get("replaced"), dict)
    )


# Key -> test of its value, what it should be, and whether it must be there.
Keys = dict[str, tuple[Callable[[Any], bool], str, bool]]
_KEYS: Keys = {
    "id": (lambda value: isinstance(value, str) and bool(value), "text", True),
    "audio_path": (_is_texts, "a list of strings", True),
    "question": (lambda value: isinstance(value, str), "text", True),
    "answer": (_is_text_or_none, "text or null", True),
    "choices": (_is_texts, "a list of strings", True),
    "problem": (_is_text_or_none, "text or null", False),
    "condition": (_is_condition, "a condition with its variant", False),
    "recipe": (lambda value: value in recipes.names(), "a recipe", False),
}
_KEYS_BY_ROWS: Keys = {
    "benchmark": (lambda value: value in BENCHMARKS, "a benchmark", True),
    "prompt": (lambda value: isinstance(value, str), "text", True),
    "attributes": (_is_texts_by_name, "texts by name", True),
}
_KEYS_OF_MMAUPRO: Keys = {
    "kwargs": (lambda value: value is None or isinstance(value, dict), "an object or null", True),
    "task_identifier": (_is_text_or_none, "text or null", True),
    "task_classification": (_is_text_or_none, "text or null", False),
    "transcription": (_is_text_or_none, "text or null", False),
    "length_type": (_is_text_or_none, "text or null", False),
    "sub-cat": (_is_text_or_none, "text or null", False),
    "perceptual_skills": (
        lambda value: value is None or _is_texts(value),
        "a list of strings",
        False,
    ),
    "reasoning_skills": (
        lambda value: value is None or _is_texts(value),
        "a list of strings",
        False,
    ),
    "kwargs_null": (lambda value: value is None or _is_texts(value), "a list of strings", False),
}


@functools.cache
def _keys_of(name: str) -> Keys:
    """Return what the documents of a benchmark hold."""
    values = list(BENCHMARKS[name].by_value)  # a list: what is not hashable is no category either
    category: Keys = {"category": (lambda value: value in values, "a category", True)}
    return {**_KEYS, **category, **(_KEYS_OF_MMAUPRO if name == MMAUPRO else _KEYS_BY_ROWS)}


def _require_document(doc: Any, name: str, where: str) -> None:
    if not isinstance(doc, dict):
        raise ScoringError(f"{where}: no field 'doc'. Is this a samples file of our tasks?")
    keys, categories = _keys_of(name), BENCHMARKS[name].by_value
    missing = [key for key, (_, _, needed) in keys.items() if needed and key not in doc]
    if missing:
        raise ScoringError(f"{where}: the document lacks {', '.join(missing)}")
    for key, (is_good, kind, _) in keys.items():
        if key in doc and not is_good(doc[key]):
            raise ScoringError(
                f"{where}: {key} of the document is {doc[key]!r}, not {kind}. Score the file that "
                "the run wrote"
            )
    digests = doc.get("audio_sha256")
    if digests is not None and not (
        isinstance(digests, list)
        and len(digests) == len(doc["audio_path"])
        and all(map(_is_text_or_none, digests))
    ):
        raise ScoringError(
            f"{where}: audio_sha256 of the document is {digests!r}, not one digest for each clip"
        )
    needs_answer = categories[doc["category"]].kind not in ("instruction", "hidden")
    if needs_answer and doc["answer"] is None and not doc.get("problem"):
        raise ScoringError(f"{where}: the document (id {doc['id']}) has no answer")


# --- the reply -----------------------------------------------------------------------------------


def _reply(sample: Mapping[str, Any], where: str, name: str) -> str:
    """Return the one reply of a sample; never anything in its place."""
    if name not in sample:
        has = ", ".join(key for key in REPLY_FIELDS if key in sample) or "none"
        raise ScoringError(
            f"{where}: no field {name!r} with the reply (reply fields there are: {has}). Log the "
            "samples again with --log_samples, or name another with --reply-field"
        )
    value = sample[name]
    # resps: one list of repeats per request; filtered_resps: one value per request.
    values = value[0] if name == "resps" and isinstance(value, list) and value else value
    if not isinstance(values, list) or not values:
        raise ScoringError(f"{where}: field {name!r} holds no reply but {value!r}")
    if len(values) > 1 or (isinstance(value, list) and len(value) > 1):
        raise ScoringError(
            f"{where}: field {name!r} holds several replies to one item. Score one reply an item: "
            "run without `repeats`"
        )
    reply = values[0]
    if not isinstance(reply, str):
        raise ScoringError(
            f"{where}: the reply in {name!r} is {type(reply).__name__} ({reply!r}), not text"
        )
    return reply


def _finish(sample: Mapping[str, Any]) -> str | None:
    finish = sample.get("finish")
    return finish if isinstance(finish, str) else None


# --- what the model was given --------------------------------------------------------------------


def _arguments(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    arguments = sample.get("arguments")
    found = arguments.get("gen_args_0") if isinstance(arguments, dict) else None
    return found if isinstance(found, dict) else {}


def _given(sample: Mapping[str, Any], doc: Doc, where: str) -> list[Mapping[str, Any]]:
    """Return the references to the clips that the model was given; empty ones where none are logged."""
    media = _arguments(sample).get("arg_2")
    clips = media.get("audio") if isinstance(media, dict) else None
    if not clips:
        return [{} for _ in doc["audio_path"]]
    if not isinstance(clips, list) or not all(isinstance(clip, dict) for clip in clips):
        raise ScoringError(f"{where}: the clips given to the model are {clips!r}, not references")
    if len(clips) != len(doc["audio_path"]):
        raise ScoringError(
            f"{where}: {len(clips)} clips were given to the model, the document has "
            f"{len(doc['audio_path'])}"
        )
    return clips


def _not_as_asked(
    sample: Mapping[str, Any], doc: Doc, heard: Sequence[Mapping[str, Any]], asks_for: str
) -> Iterator[str]:
    if doc["audio_path"] and not any(heard):
        yield "no audio was given to the model"
    text = _arguments(sample).get("arg_0")
    if not isinstance(text, str):
        yield "no prompt was logged"
    elif not is_asked_in(doc, text, asks_for):
        yield (
            "the prompt is not the benchmark's (another wording, or options in another order): it ends "
            f"in {text[-60:]!r}"
        )
