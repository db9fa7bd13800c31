"""What lm_eval's cache of requests must tell apart in tasks of ours, and its own key does not."""

from __future__ import annotations

import json
from typing import Any

from mmaupro_ext import __version__
from mmaupro_ext.util import sha256_of_text


def is_our_task(task: Any) -> bool:
    """Tell whether a task is one of ours, by the argument of its loader."""
    return "mmaupro_category" in (getattr(task.config, "dataset_kwargs", None) or {})


def digest_of_requests(task: Any, options: dict[str, Any]) -> str:
    """Return a digest of what lm_eval makes requests of, and its own key does not hold."""
    choices = task.doc_to_choice if task.config.doc_to_choice is not None else lambda doc: None
    docs = [
        [doc, task.doc_to_text(doc), task.doc_to_audio(doc), choices(doc)] for doc in task.eval_docs
    ]
    settings = [getattr(task.config, name, None) for name in _OF_REQUESTS]
    made_of = [docs, settings, options.get("samples"), __version__]
    return sha256_of_text(json.dumps(made_of, sort_keys=True, default=str))[:16]


# Settings of a task that lm_eval reads when it makes requests, besides those in its own key.
_OF_REQUESTS = (
    ("generation_kwargs", "repeats", "output_type", "description", "gen_prefix")
    + ("target_delimiter", "fewshot_delimiter")
)  # fmt: skip
