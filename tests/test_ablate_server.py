"""`mmaupro ablate` of a model behind a server: what it is sent, what is said, and a run that goes on."""

from __future__ import annotations

import json
import re

import pytest
from chat_standin import without_proxy
from listening_server import Listener, sounds_of, text_with_marks
from lm_eval_here import run
from test_ablate import ablate

from mmaupro_ext.data import conditions
from mmaupro_ext.models.journal import Journal
from mmaupro_ext.report import runs

STEREO = "mmaupro-sample_spatial_audio"
TASKS = f"{STEREO},mmau-sample_speech"
ASKED = [name for name in conditions.CONDITIONS if name not in ("rephrase", "text-backbone")]


def words(server, folder, more=""):
    return (
        f"--model openai-audio --model_args base_url={server.url},max_retries=0{more} --tasks {TASKS} "
        f"--limit 2 --output_path {folder}"
    )


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Interrupt an ablation under all conditions and start it again; return server, folder and outputs."""
    folder, keep = tmp_path_factory.mktemp("served"), Journal.keep

    def interrupted_keep(self, address, entry):
        keep(self, address, entry)
        if len(self) == 30:
            raise KeyboardInterrupt

    with Listener() as server:
        server.models = ["org/own"]
        outputs = []
        for interrupted in (True, False):
            with pytest.MonkeyPatch.context() as patch:
                without_proxy(patch)
                if interrupted:
                    patch.setattr(Journal, "keep", interrupted_keep)
                outputs.append(ablate(patch, words(server, folder)))
    return server, folder, outputs


def results_of(folder):
    """Return the results of each condition by its name."""
    files = (folder / "org__own").glob("*/results_*.json")
    return {file.parent.name: json.loads(file.read_text()) for file in files}


def test_the_run_is_called_by_the_model_that_the_server_lists(ended):
    """lm_eval draws letters where the arguments name no model: another folder for each start."""
    _, folder, (_, printed) = ended
    found = results_of(folder)
    assert set(found) == {"full", *ASKED} - {"mono", "first-30s"}
    assert {results["model_name"] for results in found.values()} == {"org/own"}
    assert "\norg/own on the embedded sample" in printed


def test_what_was_kept_is_not_asked_again(ended):
    server, folder, (first, second) = ended
    assert re.search(r"Interrupted: \d+ of \d+ answers are kept", first)
    assert second.endswith("exit 0")
    kept = [
        entry
        for file in (folder / "journal").rglob("*.jsonl")
        for entry in map(json.loads, file.read_text().splitlines())
        if "request" in entry
    ]
    # What was under way when the signal came may have been asked for again.
    assert len(kept) <= len(server.asked) <= len(kept) + 8
    samples = [
        json.loads(line)
        for file in (folder / "org__own").glob("*/samples_*.jsonl")
        for line in file.read_text().splitlines()
    ]
    # The released order of choices, once more under permute, has its answer from the journal.
    assert len(samples) - 4 <= len(kept) <= len(samples)
    assert all(sample["errored"] == 0.0 for sample in samples)


def test_only_what_is_asked_without_audio_is_sent_without(ended):
    server, folder, _ = ended
    silent = [body for body in server.asked if not sounds_of(body)]
    assert not any("<audio>" in text_with_marks(body) for body in silent)
    assert (
        len(silent)
        >= 4
        == results_of(folder)["none"]["n-samples"]["mmau-sample_speech"]["effective"] + 2
    )


def test_what_is_said_at_the_end_is_of_all_conditions_and_of_both_starts(ended):
    _, folder, (_, printed) = ended
    heard = [results["config"].get("heard") or {} for results in results_of(folder).values()]
    clips = sum(one.get("clips", 0) for one in heard)
    assert f"Heard under all conditions: {clips} clips, " in printed
    files = list((folder / "org__own").glob("*/samples_*.jsonl"))
    assert f"{folder}/org__own/<condition>/samples_*.jsonl ({len(files)} files)" in printed
    assert {results["config"]["limit"] for results in results_of(folder).values()} == {2}


def test_the_list_of_runs_names_each_task_once(ended):
    _, folder, _ = ended
    (run_,) = runs.below(folder)
    assert "mmaupro-sample_spatial_audio, mmau-sample_speech under 11 conditions" in runs.listing(
        [run_]
    )


def test_a_condition_that_changes_nothing_of_what_is_given_is_not_asked(ended):
    """The server is sent left and right mixed: their mean would be the same sound once more."""
    _, folder, (_, printed) = ended
    assert "NOT ASKED under mono: 4 items: no clip of two channels (2)" in printed
    assert "given left and right mixed anyway (channels=mono)" in printed
    profile = json.loads((folder / "org__own" / "reliance.json").read_text())
    assert sum(profile["not_asked"]["mono"].values()) == 4
    assert "mono" not in profile["runs"]


@pytest.mark.parametrize(
    ("more", "condition", "told"),
    [
        ("", "mono", "given left and right mixed anyway"),
        (",send=original", "reversed", "send=original gives files as they are"),
    ],
)
def test_one_condition_that_tells_nothing_is_refused_before_anything_is_asked(
    more, condition, told, tmp_path, monkeypatch, capsys
):
    without_proxy(monkeypatch)
    with Listener() as server:
        given = words(server, tmp_path, f",model=m{more}").replace(TASKS, STEREO).split()
        with pytest.raises(SystemExit) as end:
            run(monkeypatch, *given, "--metadata", f"condition={condition}")
    assert end.value.code == 2
    assert told in capsys.readouterr().err
    assert not server.requests


def test_files_sent_as_they_are_are_not_compared_with_altered_sound(tmp_path, monkeypatch, capsys):
    without_proxy(monkeypatch)
    with Listener() as server:
        given = words(server, tmp_path, ",model=m,send=original,audio_format=input_audio")
        printed = ablate(monkeypatch, f"{given} --conditions none,reversed,repeat,swap")
    assert printed.endswith("exit 0")
    assert "NOT ASKED under reversed: 4 items: send=original gives files as they are" in printed
    files = {file.parent.name for file in (tmp_path / "m").glob("*/samples_*.jsonl")}
    assert files == {"full", "none", "repeat", "swap"}
    logged = capsys.readouterr().err
    assert "answers are kept as they come in" in logged  # as in a run of one condition
    assert "Custom kwargs" not in logged
