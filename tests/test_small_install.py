"""The small install: what works without models and lm_eval, and what is said of the rest.

An import blocker stands for what is not installed; `make wheel` does the same in a bare environment, where
it really is not.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from logged_runs import write_run

import environment
from mmaupro_ext import extras

REPO = Path(__file__).parents[1]
SAMPLE = REPO / "mmaupro_ext/data/sample"
CLIP = next((SAMPLE / "data").glob("*.flac"))
BLOCKER = """
import json, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""
LEFT_OUT = {*extras.EXTRA_OF, "evaluate", "sklearn", "safetensors", "tokenizers", "librosa"}


def program(code: str, *arguments: object, missing=LEFT_OUT) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", f"MISSING = set({sorted(missing)}){BLOCKER}{code}"]
    env = os.environ | {"PYTHONPATH": str(Path(extras.__file__).parents[1]), "MMAUPRO_NO_HOOK": "1"}
    return subprocess.run(
        [*command, *map(str, arguments)],
        env=env,
        cwd=Path(extras.__file__).parent,  # not a checkout, whose package may have no core
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


COMMANDS = """
from mmaupro_ext.commands.cli import main
for command in json.loads(sys.argv[1]):
    try:
        main(command)
    except SystemExit as stop:
        print("status", stop.code or 0)
    assert not MISSING.intersection(sys.modules)
"""


def test_what_works_without_models_and_lm_eval(tmp_path):
    run = write_run(tmp_path / "run", slugs=("sound",))
    rows = SAMPLE.parent / "samples/mmar"
    commands = [
        ["info"],
        ["data", "info", "--sample"],
        ["data", "verify", "--sample"],
        ["score", "--accept-changed", str(run)],
        ["reconcile", "--accept-changed", str(run)],
        ["features", str(rows / "data"), "-o", str(tmp_path / "features")],
        ["models"],
        ["completion", "bash"],
    ]
    done = program(COMMANDS, json.dumps(commands))
    assert done.stdout.count("status 0") == len(commands), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "100.0" in done.stdout


@pytest.mark.parametrize(
    ("command", "needed", "wanted"),
    [
        ("run --tasks mmaupro-sample", "lm_eval", "mmaupro-ext"),
        ("doctor --model hf-audio --model_args pretrained=nano", "", "mmaupro-ext"),
        ("compare a b", "pandas", "'mmaupro-ext[report]'"),
        ("report a", "pandas", "'mmaupro-ext[report]'"),
    ],
)
def test_what_is_missing_is_one_sentence_with_the_command_that_brings_it(command, needed, wanted):
    done = program(COMMANDS, json.dumps([command.split()]))
    assert done.stdout == "status 2\n", done.stderr
    assert done.stderr.count("\n") == 1
    assert f"{needed}, which is not installed" in done.stderr
    assert f"`pip install {wanted}`" in done.stderr


FRONTEND = """
import mmaupro_ext.audio
ours = {name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names - BEFORE
print(json.dumps([len(sys.modules), sorted(ours)]))
from mmaupro_ext import audio, data, features, scoring
x = audio.load(sys.argv[1], sampling_rate=16000)
print(x.dtype, features.log_mel(x).shape)
try:
    audio.resample(x, 16000, 44100, resampler="soxr")
except Exception as error:
    print(error)
"""
# Start-up files of other packages import what they like.
BEFORE = "BEFORE = {name.partition('.')[0] for name in sys.modules}"


def test_the_frontend_takes_numpy_and_soundfile_and_is_light():
    missing = {*LEFT_OUT, *extras.PLAIN} - {"numpy", "soundfile"}
    done = program(f"{BEFORE}{FRONTEND}", CLIP, missing=missing)
    assert not done.stderr
    imported, computed, refused = done.stdout.splitlines()
    modules, foreign = json.loads(imported)
    of_soundfile = {"_cffi_backend", "_soundfile", "_soundfile_data", "typing_extensions"}
    assert set(foreign) - of_soundfile == {"mmaupro_ext", "numpy", "soundfile"}
    # 252 when this was written, of which numpy and Python's own are 215; torch alone is another 1,500.
    assert modules < 300
    assert computed.startswith("float32 (128, ")
    assert refused.endswith("needs soxr, which is not installed. Get it with `pip install soxr`")


def test_each_extra_that_is_named_brings_what_it_is_named_for():
    modules = {"PIL": "pillow", "lm_eval": "lm-eval", "vl_convert": "vl-convert-python"}
    for name, extra in extras.EXTRA_OF.items():
        if name != "datasets":  # comes with lm-eval
            lines = environment.requirements([extra] if extra else [])
            assert any(line.startswith(modules.get(name, name)) for line in lines), name


def test_the_page_on_installing_names_what_the_small_install_takes():
    page = (REPO / "docs/install.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"^\$ pip install ((?!--)(?!\')[a-z].*)$", page, re.MULTILINE)
    assert named.split() == [environment.PIP_NAMES.get(name, name) for name in extras.PLAIN]
    required = {re.match(r"[\w-]+", line).group() for line in environment.requirements()}
    assert set(named.split()) <= required


def test_a_package_that_is_there_and_lacks_a_part_is_not_called_missing():
    error = ModuleNotFoundError("No module named 'numpy.gone'", name="numpy.gone")
    assert extras.advice(error) is None
    with pytest.raises(ModuleNotFoundError, match="gone"):
        extras.require("this", "numpy.gone")
    with pytest.raises(ModuleNotFoundError, match="a_stranger"):
        extras.require("this", "a_stranger")
