"""The ways of a clip and of a reply, counted in files: what a newcomer reads to follow them.

Every file of ours counts in which a function runs, however small. What a process makes once stays out, by
a first clip or reply before the one that is followed: plans of resampling, the choice of a core, the words of
a question's options.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import mmaupro_ext
from mmaupro_ext import plugin, scoring

REPO = Path(__file__).parents[1]
# Where this process runs them: in the checkout, or installed.
PACKAGE, TASKS = Path(mmaupro_ext.__file__).parent, Path(plugin.tasks_dir())
PAGE = (REPO / "docs" / "architecture.md").read_text(encoding="utf-8")

MOST_FOR_A_CLIP = 10
# Three of eight are how the words of closed replies are read.
MOST_FOR_A_REPLY = {"open": 5, "instruction": 5, "closed": 8}

CLIP = {
    "models/hf/preparing.py",
    "models/blocks.py",
    "audio/decoding.py",
    "audio/opening.py",
    "audio/whole/chunks.py",
    "native/kernels.py",
    "models/windows.py",
    "features/extractor.py",
    "features/whisper.py",
    "models/families/qwen2_audio.py",
}
REPLY = {"tasks/mmaupro/utils.py", "scoring/scorer.py", "replies.py", "scoring/final.py"}
READING = ("normalise", "mentions", "statements")
REPLIES = {
    "open": REPLY,
    "instruction": REPLY | {"scoring/instruction_following.py"},
    "closed": REPLY | {"scoring/closed.py", *(f"scoring/reading/{name}.py" for name in READING)},
}


def name_of(file: str) -> str | None:
    path = Path(file)
    if path.is_relative_to(TASKS):  # first: installed, they lie inside the package
        return f"tasks/{path.relative_to(TASKS).as_posix()}"
    return path.relative_to(PACKAGE).as_posix() if path.is_relative_to(PACKAGE) else None


def followed(task: Callable[[], Any]) -> tuple[set[str], set[tuple[str, str]]]:
    """Return our files that a call enters, and which calls into which."""
    files: set[str] = set()
    calls: set[tuple[str, str]] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        if event != "call" or (name := name_of(frame.f_code.co_filename)) is None:
            return
        files.add(name)
        while (frame := frame.f_back) is not None:
            if (caller := name_of(frame.f_code.co_filename)) is not None:
                calls.add((caller, name))
                return

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        task()
    finally:
        sys.setprofile(before)
    return files, {(caller, name) for caller, name in calls if caller != name}


# ---- a clip ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def prepare():
    """Prepare a question on one clip for a tiny Qwen2-Audio, as `hf-audio` does by default."""
    from mmaupro_ext import features
    from mmaupro_ext.audio import AudioReader
    from mmaupro_ext.models import tiny_random
    from mmaupro_ext.models.blocks import Placer
    from mmaupro_ext.models.families import FAMILIES
    from mmaupro_ext.models.hf.preparing import Preparer
    from mmaupro_ext.models.items import Question
    from mmaupro_ext.models.windows import LongAudio

    _, processor = tiny_random.make()
    processor.feature_extractor = features.native_extractor(processor.feature_extractor)
    family = FAMILIES["qwen2_audio"]
    reader = AudioReader(16_000, "native", cache_bytes=0)
    placer = Placer(reader, family.writing, LongAudio(), "list", "mono")
    preparer = Preparer(processor, family.loading, placer, None)
    return lambda clip: preparer.prepare(Question("<audio>\nWhich?", {"audio": [clip]}))


@pytest.fixture
def clip(tmp_path):
    """Write a stereo clip of 31 s, which are two blocks, at another rate than the model's."""

    def write(name: str) -> str:
        path = tmp_path / name
        sound = np.random.default_rng(0).normal(0, 0.1, (31 * 22_050, 2))
        soundfile.write(path, sound, 22_050)
        return str(path)

    return write


def way_of_a_clip(prepare, clip, suffix):
    prepare(clip(f"first{suffix}"))
    second = clip(f"second{suffix}")
    return followed(lambda: prepare(second))


def test_a_clip_passes_ten_files_to_the_input_of_a_model(prepare, clip):
    files, _ = way_of_a_clip(prepare, clip, ".wav")
    assert files == CLIP
    assert len(files) <= MOST_FOR_A_CLIP


@pytest.mark.parametrize("suffix", [".flac", ".mp3", ".ogg", ".aiff"])
def test_the_way_is_as_short_from_other_formats(prepare, clip, suffix):
    files, _ = way_of_a_clip(prepare, clip, suffix)
    assert len(files) <= MOST_FOR_A_CLIP
    assert files - CLIP <= {f"audio/whole/{name}.py" for name in ("flac", "mpeg", "ogg")}


def test_a_prompt_does_not_return_to_a_file_that_waits_for_it(prepare, clip):
    _, calls = way_of_a_clip(prepare, clip, ".wav")
    # Two do by their nature: a judge reads bytes of the open file, a family uses what it inherits.
    calls.remove(("audio/whole/chunks.py", "audio/opening.py"))
    calls.remove(("features/whisper.py", "features/extractor.py"))
    left = {caller for caller, _ in calls} | {name for _, name in calls}
    # Take away, again and again, what calls nothing that is left: only a circle stays.
    while leaves := {name for name in left if not any((name, other) in calls for other in left)}:
        left -= leaves
    assert left == set()


# ---- a reply -----------------------------------------------------------------------------------

ITEM = {
    "id": "1", "question": "Say it in capitals.", "audio_path": ["a.wav"], "choices": [], "answer": None,
    "task_identifier": "", "kwargs": {},
}  # fmt: skip
DOCS = {
    "open": ITEM | {"category": "open", "answer": "a dog"},
    "instruction": ITEM
    | {
        "category": "instruction following",
        "task_identifier": "Number Words (at least)",
        "kwargs": {"N": "2"},
    },
    "closed": ITEM | {"category": "sound", "choices": ["Tea", "Coffee"], "answer": "Coffee"},
}
TEXTS = ["The answer is (B), because of the hiss.", "Coffee", "I think that it is tea."]


@pytest.fixture(scope="module")
def process_results():
    spec = importlib.util.spec_from_file_location("way_utils", TASKS / "mmaupro" / "utils.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.process_results


def of_all(task: Callable[[str], Any]) -> set[str]:
    for text in TEXTS:
        task(text)
    return set().union(*(followed(lambda text=text: task(text))[0] for text in TEXTS))


@pytest.mark.parametrize("kind", DOCS)
def test_a_reply_passes_few_files_to_its_score(process_results, kind):
    files = of_all(lambda text: process_results(DOCS[kind], [text]))
    assert files == REPLIES[kind]
    assert len(files) <= MOST_FOR_A_REPLY[kind]


@pytest.mark.parametrize("kind", DOCS)
def test_a_logged_reply_passes_the_same_files(kind):
    files = of_all(lambda text: scoring.score(DOCS[kind], text, judge_text="OVERALL: 4"))
    judged = {"scoring/open_ended.py"} if kind == "open" else set()
    assert files == REPLIES[kind] - {"tasks/mmaupro/utils.py"} | judged


# ---- the page that describes them --------------------------------------------------------------


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def named(text: str) -> list[tuple[str, str]]:
    return re.findall(r"`([\w/]+\.py):([\w.]+)`", text)


def defined(file: str) -> set[str]:
    inside = file.removeprefix("tasks/")
    path = TASKS / inside if inside != file else PACKAGE / file
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
            inner = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{one.name}" for one in inner if hasattr(one, "name")}
    return found


@pytest.mark.parametrize("title", ["The way of one clip", "The way of one reply"])
def test_every_function_on_the_page_is_where_it_says(title):
    places = named(section(title))
    assert len(places) > 5
    assert [place for place in places if place[1] not in defined(place[0])] == []


@pytest.mark.parametrize(
    ("title", "files"),
    [("The way of one clip", CLIP), ("The way of one reply", set().union(*REPLIES.values()))],
)
def test_the_page_names_every_file_of_the_way(title, files):
    assert files - {file for file, _ in named(section(title))} == set()
