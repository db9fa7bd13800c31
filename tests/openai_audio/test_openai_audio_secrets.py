"""openai-audio: no key gets into a file or a line of a run, whatever the server echoes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from listening_server import Listener, error, is_check

from mmaupro_ext import masking, plugin
from mmaupro_ext.compat import secret_arguments

PACKAGE_PARENT = str(Path(plugin.__file__).parents[1])
KEY, TENANT, SIGNATURE, PASSWORD = "sk-11111111", "tenant/22222222", "sig 33333333", "pass-44444444"
SECRETS = (KEY, TENANT, SIGNATURE, PASSWORD)


class Echo(Listener):
    """Says all that it was sent, in replies and in errors."""

    def __init__(self):
        super().__init__(reply=self._echo)
        self.told = 0

    def _echo(self, body):
        sent = {name: part for name, part in body.items() if name != "messages"}
        said = json.dumps([self.requests[-1][0], self.headers[-1], sent])
        self.told += 1
        if self.told == 2:
            return error(400, said)
        if self.told == 3:
            return error(401, said)
        if self.told in (4, 5):
            return 500, {}, said.encode()
        return said


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run of lm_eval's command line, with all that it writes and says."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "key").write_text(KEY + "\n")
    with Echo() as server:
        arguments = {
            "base_url": server.url,
            "model": "tiny",
            "api_key_file": str(folder / "key"),
            "headers": {"X-Tenant": TENANT},
            "query": {"api-version": "2025-01-01", "access_token": SIGNATURE},
            "extra_body": {"login": {"password": PASSWORD}, "top_k": 1},
            "concurrency": 1,
            "max_retries": 1,
        }
        (folder / "out").mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "mmaupro_ext", "run", "--model", "openai-audio",
             "--model_args", json.dumps(arguments), "--tasks", "mmaupro-sample_voice_chat", "--limit", "5",
             "--output_path", str(folder / "out"), "--log_samples",
             "--use_cache", str(folder / "out" / "cache"), "--show_config", "--write_out",
             "--verbosity", "DEBUG"],
            env={**os.environ, "PYTHONPATH": PACKAGE_PARENT, "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "1",
                 "XDG_CACHE_HOME": str(folder / "out" / "xdg")},
            cwd=folder, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done, folder / "out", server


def test_what_is_sent_is_sent(run):
    _, _, server = run
    assert server.headers[-1]["Authorization"] == f"Bearer {KEY}"
    assert server.headers[-1]["X-Tenant"] == TENANT
    path, body = server.requests[-1]
    assert path.partition("?")[2] == "api-version=2025-01-01&access_token=sig+33333333"
    assert body["login"] == {"password": PASSWORD}
    assert any(is_check(body) for _, body in server.requests)
    assert server.told == 6


def test_no_file_and_no_line_of_a_run_holds_a_secret(run):
    done, out, _ = run
    texts = {"output": (done.stdout + done.stderr).encode()}
    texts |= {str(path): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    kept = [name for name in texts if "cache" in name and b"***" in texts[name]]
    assert kept
    assert {".json", ".jsonl"} <= {Path(name).suffix for name in texts}
    for number in ("11111111", "22222222", "33333333", "44444444"):
        assert {name: text.count(number.encode()) for name, text in texts.items()} == dict.fromkeys(
            texts, 0
        )


def test_the_results_say_what_was_asked_for_without_the_secrets(run):
    _, out, server = run
    (path,) = out.rglob("results_*.json")
    config = json.loads(path.read_text())["config"]
    given = config["model_args"]
    assert given["base_url"] == server.url
    assert given["headers"] == {"X-Tenant": "***"}
    assert given["query"] == {"api-version": "2025-01-01", "access_token": "***"}
    assert given["extra_body"] == {"login": {"password": "***"}, "top_k": 1}
    assert config["identity"]["query"] == {"api-version": "2025-01-01"}
    (path,) = out.rglob("samples_*.jsonl")
    replies = [json.loads(line)["resps"][0][0] for line in path.read_text().splitlines()]
    assert len(replies) == 5
    assert all("***" in reply for reply in replies)  # echoed, and taken out
    assert sum("status 4" in reply or "status 500" in reply for reply in replies) == 3


@pytest.mark.parametrize(
    "given", [{"headers": {"X": "sk-55555555"}}, 'headers={"X": "sk-55555555"}']
)
def test_a_call_from_python_gives_them_to_the_model_and_to_nobody_else(given):
    seen = []

    class Model:
        @classmethod
        def create_from_arg_obj(cls, arg_dict, additional_config=None):
            seen.append(arg_dict)

    class Module:
        LM = Model

        @staticmethod
        def simple_evaluate(model, model_args=None, metadata=None):
            Model.create_from_arg_obj(model_args)
            seen.append(f"{model_args}")
            return {"config": {"model_args": model_args}, "configs": {"t": {"metadata": metadata}}}

    secret_arguments.reveal_to_models(Module)
    secret_arguments.hide_in_simple_evaluate(Module)
    results = Module.simple_evaluate("openai-audio", given, metadata={"token": "sk-55555555"})
    assert seen[0]["headers"] == {"X": "sk-55555555"}
    assert "55555555" not in seen[1] + json.dumps(results)
    of_others = Module.simple_evaluate("hf", {"token": "sk-55555555"})
    assert of_others["config"]["model_args"] == {"token": "sk-55555555"}


# ---- which values are secrets --------------------------------------------------------------------


@pytest.fixture
def _nothing_known(monkeypatch):
    monkeypatch.setattr(masking, "_known", set())


@pytest.mark.usefixtures("_nothing_known")
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"api_key": "sk-11111111"}, {"api_key": "***"}),
        ({"token": "hf_11111111", "pretrained": "nano"}, {"token": "***", "pretrained": "nano"}),
        ({"headers": '{"A": "b-11111111"}'}, {"headers": {"A": "***"}}),
        ({"headers": '{"A": "b-11111111"'}, {"headers": "***"}),
        ({"extra_body": {"a": [{"secret": "11111111"}]}}, {"extra_body": {"a": [{"secret": "***"}]}}),
        ({"base_url": "https://me:11111111@h/v1"}, {"base_url": "https://***h/v1"}),
        ({"base_url": "https://h/v1?k=11111111"}, {"base_url": "https://h/v1***"}),
        ({"api_key_command": "echo 11111111"}, {"api_key_command": "***"}),
        ({"think_end_token": "</think>", "max_tokens": 5, "check": False, "token": None}, None),
    ],
)  # fmt: skip
def test_arguments_are_shown_without_secrets_and_come_back_whole(arguments, shown):
    hidden = masking.hidden(arguments)
    assert json.loads(json.dumps(hidden, default=str)) == (shown or arguments)
    assert masking.shown(hidden) == (shown or arguments)
    assert "11111111" not in f"{hidden}"
    assert masking.shown(masking.hidden(hidden)) == (shown or arguments)
    revealed = masking.revealed(masking.hidden(hidden))
    if isinstance(arguments.get("headers"), str) and arguments["headers"].endswith("}"):
        arguments = {"headers": json.loads(arguments["headers"])}
    assert revealed == arguments


@pytest.mark.usefixtures("_nothing_known")
def test_placeholders_are_left_alone_in_replies():
    masking.keep_out("EMPTY")
    assert masking.masked("The bottle is EMPTY.") == "The bottle is EMPTY."
