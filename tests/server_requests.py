"""A client of the stand-in server, and requests as lm_eval makes them, for the tests of openai-audio."""

from __future__ import annotations

import dataclasses

from listening_server import text_with_marks

RATE = 16_000
GREEDY = {"until": [], "max_gen_toks": 8}


def model(server, model="tiny", **arguments):
    from mmaupro_ext.models.engines.openai import OpenAIAudioLM

    quick = {"timeout": 5.0, "concurrency": 1, "max_retries": 2}
    lm = OpenAIAudioLM(server.url, model, **quick | arguments)
    lm.server.settings = dataclasses.replace(
        lm.server.settings, backoff_s=0.01, grace_s=2.0, longest_wait_s=5.0
    )
    return lm


def request(context, *clips, images=(), doc_id=0, **gen_kwargs):
    from lm_eval.api.instance import Instance

    media = {}
    if clips:
        media["audio"] = [c if isinstance(c, dict) else {"path": c} for c in clips]
    if images:
        media["visual"] = list(images)
    arguments = (context, GREEDY | gen_kwargs, *([media] if media else []))
    made = Instance("generate_until", {"id": f"q{doc_id}"}, arguments, 0)
    made.task_name, made.doc_id = "task", doc_id
    return made


def ask(lm, *requests):
    return lm.generate_until(list(requests), disable_tqdm=True)


def failing(act, text="FAIL"):
    """A reply that fails for items with a certain word."""
    return lambda body: act if text in text_with_marks(body) else "B"
