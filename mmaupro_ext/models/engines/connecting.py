"""How a chat server is reached: its address, its key, and the name of its model."""

from __future__ import annotations

import logging
import os
from typing import Any
from urllib.parse import urlsplit

from mmaupro_ext.chat_server import ChatServer, ServerSettings, Wording
from mmaupro_ext.errors import ConfigError

logger = logging.getLogger(__name__)

KEY_VARIABLE = "OPENAI_API_KEY"


def connect(
    base_url: str | None,
    model: str | None,
    *,
    key_variable: str,
    key: Any,
    settings: ServerSettings,
) -> ChatServer:
    """Return a client of a server that was seen to answer.

    Parameters
    ----------
    base_url : str or None
        Base address, such as ``http://localhost:8000/v1``.
    model : str or None
        Name of the model there; None: the only one that the server lists.
    key_variable : str
        Environment variable with the key.
    key : object
        A key among the arguments, which is refused.
    settings : ServerSettings
        Concurrency, rate, timeouts.

    Raises
    ------
    ConfigError
        When the server does not answer or refuses the key, or an argument cannot be honoured.
    """
    if key is not None:
        raise ConfigError(
            "model_args are written beside the results: put the key into the environment "
            f"variable {key_variable}, or name another with api_key_env=NAME."
        )
    server = ChatServer(
        _address(base_url),
        str(model or ""),
        key=_key(key_variable),
        settings=settings,
        wording=Wording(
            "the server",
            f"Put the right one into the environment variable {key_variable}, or name another "
            "with api_key_env=NAME in --model_args.",
            "base_url usually ends with /v1: check base_url and model in --model_args.",
        ),
    )
    server.model = _served_model(server, model)
    return server


def _address(base_url: str | None) -> str:
    if not base_url:
        raise ConfigError(
            "openai-audio needs the address of its server: --model_args "
            "base_url=http://localhost:8000/v1,model=NAME"
        )
    if urlsplit(base_url).username is not None:
        raise ConfigError(
            "base_url is written beside the results: take name and password out of it and put a key "
            "into the environment."
        )
    return base_url


def _key(variable: str) -> str | None:
    key = os.environ.get(variable)
    if not key and variable != KEY_VARIABLE:
        raise ConfigError(f"api_key_env={variable}: there is no such environment variable.")
    return key or None


def _served_model(server: ChatServer, model: str | None) -> str:
    listed = server.served_models()
    if model:
        if listed and model not in listed:
            logger.warning("%s lists %s, not %s", server.url, ", ".join(listed), model)
        return str(model)
    if listed and len(listed) == 1:
        return listed[0]
    known = f"It lists: {', '.join(listed)}." if listed else "It lists none."
    raise ConfigError(f"which model of {server.url}? Add model=NAME to --model_args. {known}")
