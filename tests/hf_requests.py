"""Requests as lm_eval makes them, for the tests of hf-audio."""

from __future__ import annotations

GREEDY = {"until": [], "max_gen_toks": 8}
RATE = 16_000


def generate(context, *paths, **gen_kwargs):
    return _request("generate_until", (context, GREEDY | gen_kwargs), paths)


def score(context, continuation, *paths):
    return _request("loglikelihood", (context, continuation), paths)


def _request(kind, arguments, paths):
    from lm_eval.api.instance import Instance

    if paths:
        arguments += ({"audio": [{"path": path, "sha256": None} for path in paths]},)
    return Instance(kind, {}, arguments, 0)


def scores_of(lm, context, paths, continuations=("A", "B", "C", "D")):
    requests = [score(context, continuation, *paths) for continuation in continuations]
    return [value for value, _ in lm.loglikelihood(requests, disable_tqdm=True)]
