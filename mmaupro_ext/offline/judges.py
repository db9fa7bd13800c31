"""Judges and readers of replies: any server that speaks OpenAI's chat protocol, or a local model, by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmaupro_ext.api_keys import ApiKey
from mmaupro_ext.chat_server import ChatServer, RequestFailedError
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline.judging import DECODINGS, JUDGE, SEED, Keep, Prompt, Role
from mmaupro_ext.replies import error_reply
from mmaupro_ext.scoring.open_ended import JUDGE_GENERATION
from mmaupro_ext.server_settings import ServerSettings, Wording
from mmaupro_ext.util import require_choice

if TYPE_CHECKING:
    from mmaupro_ext.offline.local_judge import LocalJudge


def _wording(role: Role) -> Wording:
    option = f"--{role.name}"
    return Wording(
        name=f"the {role.name}",
        key_fix=f"Put the right one into the environment variable {role.key_variable}, or name another "
        f"with {option}-key-env",
        address_fix=f"The address usually ends with /v1: check {option} and {option}-model",
    )


class ServerJudge:
    """A model behind ``POST {url}/chat/completions``.

    `ChatServer` says how it is asked, and what becomes of failures.

    Parameters
    ----------
    url : str
        Base address, such as ``http://localhost:8000/v1``.
    model : str
        Name of the model there.
    decoding : {"sampled", "greedy"}
        Temperature 0.1, or 0 with a fixed seed.
    key : str, optional
        Sent as a bearer token to this address only; redirections are not followed.
    settings : ServerSettings
        Concurrency, rate, timeouts.
    role : Role
        For messages.

    Raises
    ------
    ConfigError
        When the address or the decoding cannot be used; by `ask`, when the server refuses
        everything.
    """

    def __init__(
        self,
        url: str,
        model: str,
        decoding: str,
        key: str | None = None,
        settings: ServerSettings | None = None,
        role: Role = JUDGE,
    ) -> None:
        if not model:
            raise ConfigError(
                f"a {role.name} behind a server needs the model's name: add --{role.name}-model NAME"
            )
        require_choice("decoding", decoding, DECODINGS)
        self._server = ChatServer(
            url, model, key=ApiKey.fixed(key), settings=settings, wording=_wording(role)
        )
        self.url = self._server.url
        self.model, self.decoding = model, decoding
        self.name = model

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of a request besides model and messages."""
        tokens = {"max_tokens": JUDGE_GENERATION["max_new_tokens"]}
        if self.decoding == "sampled":
            return {**tokens, "temperature": JUDGE_GENERATION["temperature"]}
        return {**tokens, "temperature": 0.0, "seed": SEED}

    def identity(self) -> dict[str, Any]:
        """Return address, model and parameters."""
        return {
            "kind": "server",
            "url": self.url,
            "model": self.model,
            "parameters": self.parameters(),
        }

    def ask(self, prompts: Sequence[Prompt], keep: Keep) -> None:
        """Answer each prompt; see `Judge`.

        Raises
        ------
        ConfigError
            When the server refuses everything.
        KeyboardInterrupt
            After the answers under way were given time to arrive.
        """
        with self._server.session() as session:

            def answer(position: int) -> str:
                body = {"messages": prompts[position].messages(), **self.parameters()}
                try:
                    return session.complete(body, _text_of)
                except RequestFailedError as failure:
                    fix = None if failure.status else "score again: what was answered is kept"
                    return error_reply(failure.problem, fix=fix)

            session.each(len(prompts), answer, keep)


def _text_of(answer: Any) -> str:
    text = answer["choices"][0]["message"]["content"]
    if not isinstance(text, str):
        raise TypeError(f"no text but {text!r}")
    return text


def load_judge(
    text: str,
    decoding: str,
    model: str | None = None,
    key_variable: str | None = None,
    settings: ServerSettings | None = None,
    role: Role = JUDGE,
    **local: Any,
) -> LocalJudge | ServerJudge:
    """Return the judge, or the reader, that a command line names.

    Parameters
    ----------
    text : str
        ``hf:NAME`` for a local model, ``http://…`` or ``https://…`` for a server.
    decoding : {"sampled", "greedy"}
        How it writes.
    model : str, optional
        The model's name at a server.
    key_variable : str, optional
        Environment variable with a server's key; may be unset. The role's when left out.
    settings : ServerSettings, optional
        For a server.
    role : Role
        What it is asked for.
    **local
        `dtype`, `device`, `batch_size` and `revision` of a local model.

    Returns
    -------
    LocalJudge or ServerJudge

    Raises
    ------
    ConfigError
        When `text` names neither.
    """
    if text.startswith("hf:") and len(text) > 3:
        from mmaupro_ext.offline.local_judge import LocalJudge

        return LocalJudge(text[3:], decoding, role=role, **local)
    if text.startswith(("http://", "https://")):
        key = os.environ.get(key_variable or role.key_variable)
        return ServerJudge(text, model or "", decoding, key, settings, role)
    raise ConfigError(
        f"{text!r} names no {role.name}. Write hf:NAME, or the address of a server: http://…"
    )
