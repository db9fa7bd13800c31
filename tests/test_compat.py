"""What is changed in lm_eval 0.4.13, the start-up files that do it, and what they must never do."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import lm_eval_here
import pytest

from mmaupro_ext import compat, data, plugin
from mmaupro_ext.compat import lm_eval_0_4_13 as patches
from mmaupro_ext.compat import preflight
from mmaupro_ext.data.selection import Selection, write_selection
from mmaupro_ext.errors import DataError

PACKAGE_PARENT = str(Path(plugin.__file__).parents[1])


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter, with the package importable and the hook not yet installed."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": PACKAGE_PARENT, "MMAUPRO_NO_HOOK": "", **env},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def last_json(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


MODELS = """
    import json, sys
    from mmaupro_ext import compat
    {before}
    compat.install(); compat.install()
    import lm_eval.models
    from lm_eval.api.registry import model_registry
    ours = ("hf-audio", "openai-audio", "vllm-audio")
    print(json.dumps({{"ours": all(name in model_registry for name in ours),
        "builtin": "hf" in model_registry,
        "finders": sum(type(f).__name__ == "_AfterImport" for f in sys.meta_path)}}))
"""


def test_our_model_joins_the_built_in_ones_and_the_hook_installs_once():
    facts = last_json(run_python(MODELS.format(before="")))
    # A start-up file of an installed copy may have put its own finder first: never more than that.
    assert facts == {"ours": True, "builtin": True, "finders": 1}


def test_lm_eval_imported_before_the_hook_is_reached_too():
    facts = last_json(run_python(MODELS.format(before="import lm_eval.models")))
    assert facts["ours"] is True
    assert facts["builtin"] is True


def test_every_name_leads_to_its_class_and_is_an_entry_point():
    from lm_eval.api.registry import get_model

    compat.install()
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    for name, target in plugin.MODELS.items():
        found = get_model(name)
        assert f"{found.__module__}:{found.__name__}" == target
        assert found.MULTIMODAL
        assert f'{name} = "{target}"' in project


def test_a_model_sees_the_tasks_before_anything_runs():
    ran = []

    class Refused(Exception):  # noqa: N818
        pass

    class Model:
        def check_tasks(self, tasks):
            if "odd" in tasks:
                raise Refused

    class Cached:
        lm = Model()

    class Module:
        @staticmethod
        def evaluate(lm, task_dict, limit=None):
            ran.append((lm, limit))

    patches.look_at_tasks(Module)
    patches.look_at_tasks(Module)
    tasks = {"tasks": {"odd": 1}, "groups": {}}
    for model in (Model(), Cached()):
        with pytest.raises(Refused):
            Module.evaluate(lm=model, task_dict=tasks, limit=3)
        with pytest.raises(Refused):
            Module.evaluate(model, tasks)
    other = object()
    Module.evaluate(lm=other, task_dict=tasks, limit=3)
    Module.evaluate(Model(), {"tasks": {"even": 1}})
    assert len(ran) == 2
    assert ran[0] == (other, 3)


def test_a_hint_that_would_come_once_a_task_and_condition_is_left_out():
    """As lm_eval words it; a profile of three benchmarks had 160 of them above the warning that matters."""
    from lm_eval.api import task as theirs

    assert ": Custom kwargs can be passed" in Path(theirs.__file__).read_text(encoding="utf-8")
    for task, told in (("mmar_sound@noise", False), ("mmaupro", False), ("niah_single_1", True)):
        hint = f"{task}: Custom kwargs can be passed to `--metadata` in console"
        assert patches._tells_something(logging.makeLogRecord({"msg": hint})) == told
    assert patches._tells_something(logging.makeLogRecord({"msg": "mmar_sound: no data"}))


def test_hook_steps_aside_where_lm_eval_discovers_plugins_itself():
    code = """
        import json, types
        from mmaupro_ext.compat import lm_eval_0_4_13 as patches
        class TaskManager:
            def __init__(self): pass
        before = TaskManager.__init__
        module = types.SimpleNamespace(TaskManager=TaskManager, discover_plugin_task_paths=len)
        patches.add_tasks(module)
        print(json.dumps({"same": TaskManager.__init__ is before}))
    """
    assert last_json(run_python(code)) == {"same": True}


def test_a_failing_addition_warns_and_never_raises(monkeypatch):
    def broken(module):
        raise RuntimeError("lm_eval has changed")

    monkeypatch.setitem(compat.PATCHES, "lm_eval.models", broken)
    with pytest.warns(UserWarning, match="could not plug into lm_eval.models.*mmaupro run"):
        compat._apply("lm_eval.models", object())


HOOK = Path(compat.__file__).parent


def start_python(folder: Path, code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Start Python with the start-up files of a folder, and run code."""
    start = f"import site, sys; before = set(sys.modules); site.addsitedir({str(folder)!r})\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", start + textwrap.dedent(code)],
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture
def site(tmp_path):
    """A site-packages with our start-up files, a package of ours and an lm_eval that say who imports them."""
    for name in ("mmaupro_ext_hook.pth", "mmaupro_ext_hook.py"):
        shutil.copy(HOOK / name, tmp_path)
    for name, text in (
        ("mmaupro_ext", ""),
        ("mmaupro_ext/compat", "def install(): print('installed')\n"),
        ("lm_eval", "print('lm_eval')\n"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(text)
    return tmp_path


def test_the_start_up_file_imports_sys_and_os_only(site):
    # Python 3.13 itself reads .pth files with this encoding.
    known = "{'os', 'sys', 'encodings.utf_8_sig'}"
    done = start_python(site, f"print(sorted(set(sys.modules) - before - {known}))")
    assert (done.stdout, done.stderr) == ("['mmaupro_ext_hook']\n", "")


def test_the_start_up_file_waits_for_lm_eval(site):
    done = start_python(site, "import json; print('json'); import lm_eval")
    assert (done.stdout.split(), done.stderr) == (["json", "installed", "lm_eval"], "")
    done = start_python(site, "import lm_eval", **{plugin.OFF_SWITCH: "1"})
    assert (done.stdout.split(), done.stderr) == (["lm_eval"], "")


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "zeros", "raises", "folder"])
def test_a_damaged_install_says_nothing_at_the_start_of_python(site, damage):
    file = site / "mmaupro_ext_hook.py"
    text = file.read_text()
    file.unlink()
    if damage == "folder":
        file.mkdir()
    elif damage != "gone":
        file.write_text(
            {"empty": "", "cut": text[:900], "zeros": "\0" * 100, "raises": "1 / 0"}[damage]
        )
    done = start_python(site, "print('goes on')")
    assert (done.stdout, done.stderr) == ("goes on\n", "")


@pytest.mark.parametrize("left", [None, "", "import nothing_of_this_name"])
def test_a_half_removed_package_speaks_when_lm_eval_is_used_and_does_not_stop_it(site, left):
    shutil.rmtree(site / "mmaupro_ext")
    if left is not None:
        (site / "mmaupro_ext").mkdir()
        (site / "mmaupro_ext" / "__init__.py").write_text(left)
    assert start_python(site, "print('goes on')").stderr == ""
    done = start_python(site, "import lm_eval")
    assert done.stdout == "lm_eval\n"
    assert "mmaupro-ext is damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_patches_can_go_once_lm_eval_discovers_plugins():
    assert not patches.discovers_plugins(), (
        "this lm_eval finds models and tasks by the entry points `lm_eval.models` and `lm_eval.tasks`, "
        "which pyproject.toml declares: delete add_models, add_tasks and the start-up files "
        "(compat/mmaupro_ext_hook.*), and raise the lower bound of lm-eval in pyproject.toml"
    )


def test_a_release_that_reads_entry_points_is_recognised(monkeypatch):
    from lm_eval.tasks import manager

    monkeypatch.setattr(manager, "discover_plugin_task_paths", len, raising=False)
    assert patches.discovers_plugins()


CATEGORIES = {
    "sound", "music", "speech", "sound_music", "music_speech", "sound_speech", "sound_music_speech",
    "spatial_audio", "voice_chat", "multi", "open", "instruction_following",
}  # fmt: skip


def test_wildcards_match_exactly_the_twelve_leaves_and_a_users_folder_is_kept(tmp_path):
    from lm_eval.tasks import TaskManager

    compat.install()
    (tmp_path / "side.yaml").write_text("task: side_task\ndataset_path: json\n")
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    closed = CATEGORIES - {"open", "instruction_following"}
    expected = {
        "mmaupro_*": {f"mmaupro_{name}" for name in CATEGORIES},
        "mmaupro-sample_*": {f"mmaupro-sample_{name}" for name in CATEGORIES},
        "mmaupro-ll_*": {f"mmaupro-ll_{name}" for name in closed},
        "mmaupro-sample-ll_*": {f"mmaupro-sample-ll_{name}" for name in closed},
        "mmaupro-text_*": {f"mmaupro-text_{name}" for name in closed},
        "mmaupro-sample-text_*": {f"mmaupro-sample-text_{name}" for name in closed},
    }
    for pattern, names in expected.items():
        assert set(manager.match_tasks([pattern])) == names
    variants = ("", "-sample", "-ll", "-sample-ll", "-text", "-sample-text")
    groups = {f"mmaupro{variant}" for variant in variants}
    assert {name for name in manager.all_groups if name.startswith("mmaupro")} == groups
    names = {name for name in manager.all_tasks if name.startswith("mmaupro")}
    assert names == set().union(*expected.values()) | groups
    assert "side_task" in manager.all_tasks


def test_real_tasks_without_data_stop_before_the_model_is_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("MMAUPRO_DATA", "")
    with pytest.raises(SystemExit) as stop:
        lm_eval_here.run(
            monkeypatch, "--model", "hf-audio",
            "--model_args", "pretrained=a-model-that-does-not-exist", "--tasks", "mmaupro_sound",
        )  # fmt: skip
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert "a-model-that-does-not-exist" not in said.split("Selected Tasks")[-1]
    assert "mmaupro data fetch" in said
    assert "--tasks mmaupro-sample" in said
    assert "Traceback" not in said


def test_a_partial_download_stops_for_what_it_lacks_and_is_named_otherwise(tmp_path, monkeypatch):
    root = tmp_path / "MMAU-Pro"
    (root / "data").mkdir(parents=True)
    shutil.copy(data.SAMPLE_DIR / "test.parquet", root)
    docs = data.load_category("sound", root, whole=True)
    kept = Selection(
        ids=frozenset({docs[0]["id"]}),
        total=100,
        by_category={"sound": 1},
        revision="r",
        parts=({"description": "one item"},),
        finished=True,
    )
    write_selection(root, kept)
    assert [doc["id"] for doc in data.load_category("sound", root)] == [docs[0]["id"]]
    assert data.prepare_run(["sound"], root) == "partial download: 1 of 100 items (one item)"
    with pytest.raises(DataError, match=r"no item of music.*\n(.*\n)*.*--category music"):
        data.prepare_run(["sound", "music"], root)


CLOSED = [slug for slug, category in data.CATEGORIES.items() if category.kind == "closed"]
PERCEPTION = ["perception_semantics", "perception_phonology", "perception_paralinguistics"]


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (["mmaupro"], {"mmaupro": list(data.CATEGORIES)}),
        (["mmaupro_sound", "mmlu", "mmaupro_open"], {"mmaupro": ["sound", "open"]}),
        (["mmaupro-sample", "mmaupro-sample_sound", "mmaupro-sample-ll_sound"], {}),
        (["mmaupro-ll_speech"], {"mmaupro": ["speech"]}),
        (["mmaupro-ll"], {"mmaupro": CLOSED}),
        (["mmaupro-text_music", "mmaupro-sample-text_sound"], {"mmaupro": ["music"]}),
        (["mmaupro-text"], {"mmaupro": CLOSED}),
        ([{"task": "mmaupro_music"}, {"group": "other"}], {"mmaupro": ["music"]}),
        (["mmau_music", "mmau-ll"], {"mmau": ["music", "sound", "speech"]}),
        (["mmsu_perception", "mmar-sample"], {"mmsu": PERCEPTION}),
        (["mmau-test-text_music"], {"mmau-test": ["music"]}),
        (["audio-suite-sample"], {}),
    ],
)
def test_which_categories_of_the_real_benchmarks_a_run_needs(tasks, expected):
    assert preflight.real_categories(tasks) == expected


def test_the_suite_needs_all_of_its_benchmarks():
    found = preflight.real_categories(["audio-suite"])
    assert {name: len(slugs) for name, slugs in found.items()} == {
        "mmaupro": 12,
        "mmau": 3,
        "mmar": 7,
        "mmsu": 6,
    }
