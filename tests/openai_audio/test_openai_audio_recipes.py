"""The recipes of docs/servers.md, word for word, against servers that do what their documentation says."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from listening_server import Listener, error, is_check, parts_of, sounds_of
from server_requests import GREEDY, ask, request

from mmaupro_ext.replies import parse_error

REPO = Path(__file__).parents[2]
PAGE = (REPO / "docs" / "servers.md").read_text(encoding="utf-8")
RECIPES = {
    name: json.loads(arguments)
    for name, arguments in re.findall(
        r"^\*\*([^*]+)\*\*(?:(?!^\*\*).)*?--model_args '([^']+)'", PAGE, re.MULTILINE | re.DOTALL
    )
}
KEY = "a-key-of-somebody"


class Documented(Listener):
    """A server of one kind: its path, its key, and what it refuses.

    Parameters
    ----------
    path : str
        Of completions.
    header, value : str
        How the key must come.
    refuse : callable
        Body -> what is wrong with it, in the words of the server, or None.
    """

    def __init__(self, path, refuse, header=None, value=None, **options):
        super().__init__(**options)
        self.path, self.refuse, self.header, self.value = path, refuse, header, value
        self.once = []  # answers before the first proper one

    def _act(self, body):
        if self.requests[-1][0] != self.path:
            return error(404, "Resource not found")
        if self.header and self.headers[-1].get(self.header) != self.value:
            return error(401, "Incorrect API key provided")
        problem = self.refuse(body)
        if problem:
            return error(400, problem)
        if self.once and not is_check(body):
            return self.once.pop(0)
        streamed = body.get("stream")
        status, headers, content = super()._act(plain(body))
        return (
            as_stream(json.loads(content))
            if streamed and status == 200
            else (status, headers, content)
        )


def plain(body):
    """Return a body with sounds as `Listener` reads them."""
    body = copy.deepcopy(body)
    for part in sounds_of(body):
        if part["type"] == "input_audio":
            part["input_audio"]["data"] = part["input_audio"]["data"].rpartition(",")[2]
    return body


def as_stream(answer):
    """Return an answer in pieces, with the comments of OpenRouter, thoughts, and counts at the end."""
    (choice,) = answer["choices"]
    deltas = [
        {"role": "assistant", "content": ""},
        {"reasoning": "hm"},
        {"content": choice["message"]["content"]},
    ]
    chunks = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks += [
        {"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]},
        {"choices": [], "usage": answer["usage"]},
    ]
    lines = [
        ": OPENROUTER PROCESSING",
        *(f"data: {json.dumps(chunk)}" for chunk in chunks),
        "data: [DONE]",
    ]
    text = "".join(f"{line}\n\n" for line in lines)
    return 200, {"Content-Type": "text/event-stream"}, text.encode()


def _sound(part):
    return part.get("input_audio") or {}


def raw(body, formats):
    """Return what is wrong with sounds that must be raw base64 in `input_audio`, of some formats."""
    for part in sounds_of(body):
        if part["type"] != "input_audio":
            return f"Invalid value: '{part['type']}'. Supported values are: 'text', 'input_audio'."
        if _sound(part)["data"].startswith("data:"):
            return "input_audio.data is not valid base64"
        if _sound(part)["format"] not in formats:
            return f"input_audio.format must be one of {formats}"
    return None


def gemini(body):
    unknown = set(body) - {
        "model",
        "messages",
        "max_tokens",
        "temperature",
        "stop",
        "reasoning_effort",
    }
    if unknown:
        return f"Invalid JSON payload received. Unknown name {sorted(unknown)}"
    if len(json.dumps(body)) > 20e6:
        return "Request payload size exceeds the limit: 20971520 bytes."
    return raw(body, ("wav", "mp3", "aiff", "aac", "ogg", "flac"))


def gpt_audio(body):
    if not sounds_of(body) and "audio" not in body["modalities"]:
        return "This model requires that either input content or output modality contain audio."
    if "max_tokens" in body or body["modalities"] != ["text"]:
        return "Unsupported parameter"
    return raw(body, ("wav", "mp3"))


def qwen_omni(body):
    if body.get("stream") is not True:
        return "This model only support stream mode, please enable the stream parameter."
    if body["modalities"] != ["text"] or body["stream_options"] != {"include_usage": True}:
        return "wrong modalities"
    for part in sounds_of(body):
        if part["type"] != "input_audio" or not _sound(part)["data"].startswith("data:;base64,"):
            return "The provided URL does not appear to be valid. Ensure it is correctly formatted."
    return None


def sglang(body):
    kinds = {part["type"] for part in parts_of(body)} - {"text", "image_url", "audio_url"}
    return (
        f"1 validation error: Input should be 'text', 'image_url' or 'audio_url' {kinds}"
        if kinds
        else None
    )


def llama(body):
    for part in sounds_of(body):
        if part["type"] != "input_audio":
            return "unsupported content[].type"
        if _sound(part)["format"] not in ("wav", "mp3"):
            return "input_audio.format must be either 'wav' or 'mp3'"
    return None


def openrouter(body):
    return raw(body, ("wav", "mp3", "aiff", "aac", "ogg", "flac", "m4a", "pcm16", "pcm24"))


BEARER = {"header": "Authorization", "value": f"Bearer {KEY}"}
# Name -> the server's path, what it refuses, how the key comes, and how many blocks of audio 40 s are.
SERVERS = {
    "vLLM": ("/v1", lambda body: None, {}, 2),
    "SGLang": ("/v1", sglang, {}, 2),
    "llama-server": ("/v1", llama, {}, 2),
    "Gemini": ("/v1beta/openai", gemini, BEARER, 1),
    "GPT-audio": ("/v1", gpt_audio, BEARER, 1),
    "Qwen-Omni": ("/compatible-mode/v1", qwen_omni, BEARER, 1),
    "Azure": (
        "/openai/deployments/DEPLOYMENT", lambda body: raw(body, ("wav", "mp3")),
        {"header": "api-key", "value": KEY}, 1,
    ),
    "OpenRouter": ("/api/v1", openrouter, BEARER, 1),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _heavy_imports():
    global OpenAIAudioLM
    from mmaupro_ext.models.engines.openai import OpenAIAudioLM


def made(name, server, monkeypatch):
    """Return the model of a recipe, with the address of a stand-in."""
    arguments = dict(RECIPES[name])
    monkeypatch.setenv(arguments.get("api_key_env", "OPENAI_API_KEY"), KEY)
    path = SERVERS[name][0]
    assert arguments["base_url"].endswith(path)
    arguments["base_url"] = server.url.removesuffix("/v1") + path
    server.models = [arguments.get("model", "the-only-one")]
    lm = OpenAIAudioLM(**arguments | {"concurrency": 1, "max_retries": 1})
    lm.server.settings = lm.server.settings.__class__(
        concurrency=1, tries=2, backoff_s=0.01, largest_mb=lm.server.settings.largest_mb
    )
    return lm


def test_every_recipe_is_tested():
    assert set(RECIPES) == {*SERVERS, "Any other vendor, or your own code"}


@pytest.mark.parametrize("name", SERVERS)
def test_a_recipe_is_heard(name, clip, monkeypatch):
    path, refuse, key, blocks = SERVERS[name]
    query = RECIPES[name].get("query", {})
    asked = "?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else ""
    with Documented(f"{path}/chat/completions{asked}", refuse, **key) as server:
        lm = made(name, server, monkeypatch)
        short, long = clip("short.wav")[0], clip("long.wav", 40.0)[0]
        options = GREEDY | {"until": ["\n\n"]}
        replies = ask(
            lm, request("<audio>?", short, **options), request("<audio>?", long, **options)
        )
        assert replies == ["A", "A"]
        assert [reply.finish for reply in replies] == ["stop", "stop"]
    assert [len(sounds_of(body)) for body in server.asked] == [1, blocks]
    assert lm.finding.longest_s == (40.0 if blocks == 1 else None)
    assert lm.usage.prompt_tokens > 41 * 25  # as counted by the server, streamed or not
    assert lm.get_model_info()["heard"]["seconds_heard"] == 41.0


def test_an_error_of_openrouters_provider_is_tried_again(clip, monkeypatch):
    path, refuse, key, _ = SERVERS["OpenRouter"]
    with Documented(f"{path}/chat/completions", refuse, **key) as server:
        lost = {"error": {"code": 502, "message": "Provider returned error"}}
        server.once = [(200, {}, json.dumps(lost).encode())]
        lm = made("OpenRouter", server, monkeypatch)
        assert ask(lm, request("<audio>?", clip("a.wav")[0])) == ["A"]
        assert lm.server.retries == 1


def test_text_alone_is_an_errored_item_of_gpt_audio(monkeypatch):
    path, refuse, key, _ = SERVERS["GPT-audio"]
    with Documented(f"{path}/chat/completions", refuse, **key) as server:
        (reply,) = ask(made("GPT-audio", server, monkeypatch), request("Two?"))
    assert "run tasks that have audio" in parse_error(reply)["fix"]


# ---- your own server -----------------------------------------------------------------------------


@pytest.fixture
def own_server(monkeypatch):
    """examples/own_server.py with another vendor's code in it."""
    spec = importlib.util.spec_from_file_location("own_server", REPO / "examples" / "own_server.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.Handler, "log_message", lambda *arguments: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), module.Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        module.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        yield module
        server.shutdown()


def test_the_template_is_short_and_says_what_it_heard(own_server, clip):
    code = (REPO / "examples" / "own_server.py").read_text().split("import soundfile\n")[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 34
    lm = OpenAIAudioLM(own_server.url)
    paths = clip("a.wav", 1.0)[0], clip("b.wav", 2.5)[0]
    assert ask(lm, request("<audio> or <audio>?", *paths), request("Two?")) == [
        "I heard 2 sounds of 3.5 s in all.", "I heard 0 sounds of 0.0 s in all.",
    ]  # fmt: skip
    assert lm.server.model == "own"


def test_the_template_refuses_what_it_does_not_hear(own_server, clip):
    """Passed over, sound in another form would be answered without it."""
    lm = OpenAIAudioLM(own_server.url, audio_format="audio_url", check=False, max_retries=0)
    (reply,) = ask(lm, request("<audio>?", clip("a.wav", 1.0)[0]))
    assert "status 400" in parse_error(reply)["problem"]


def test_a_vendors_code_behind_the_template_answers_a_run(own_server, clip, monkeypatch):
    heard = []

    def vendor(text, sounds):
        heard.append((text, [(len(samples), rate) for samples, rate in sounds]))
        if "fails" in text:
            raise RuntimeError("the vendor is out of order")
        return "B"

    monkeypatch.setattr(own_server, "answer", vendor)
    lm = OpenAIAudioLM(own_server.url, check=False, concurrency=1)
    path = clip("a.wav", 1.0)[0]
    one, two = ask(lm, request("<audio>\nWhich?", path), request("<audio>\nfails?", path))
    assert one == "B"
    assert "the vendor is out of order" in parse_error(two)["problem"]
    assert heard[0] == ("<audio>\nWhich?", [(16000, 16000)])
