"""How a chat server is reached: its address, its key, and the name of its model."""

from __future__ import annotations

import logging
from typing import Any

from mmaupro_ext.api_keys import ApiKey
from mmaupro_ext.chat_server import BEARER, ChatServer
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.server_settings import ServerSettings, Wording
from mmaupro_ext.util import json_object

logger = logging.getLogger(__name__)

KEY_VARIABLE = "OPENAI_API_KEY"


def connect(
    base_url: str | None,
    model: str | None,
    *,
    key: ApiKey,
    key_header: str | None,
    headers: dict[str, Any] | str | None,
    query: dict[str, Any] | str | None,
    settings: ServerSettings,
) -> ChatServer:
    """Return a client of a server that was seen to answer.

    Parameters
    ----------
    base_url : str or None
        Base address, such as ``http://localhost:8000/v1``.
    model : str or None
        Name of the model there; None: the only one that the server lists.
    key : ApiKey
        As `key_of` finds it.
    key_header : str or None
        The header with the key; None: as a bearer token.
    headers, query : dict or str or None
        What else each request carries.
    settings : ServerSettings
        Concurrency, rate, timeouts.

    Raises
    ------
    ConfigError
        When the server does not answer or refuses the key, or an argument cannot be honoured.
    """
    if not base_url:
        raise ConfigError(
            "openai-audio needs the address of its server: --model_args "
            "base_url=http://localhost:8000/v1,model=NAME"
        )
    server = ChatServer(
        base_url,
        str(model or ""),
        key=key,
        key_header=key_header or BEARER,
        headers=json_object("headers", headers),
        query=json_object("query", query),
        settings=settings,
        wording=Wording(
            "the server",
            f"Put the right key into the environment variable {KEY_VARIABLE}, or say with api_key_env, "
            "api_key_file or api_key_command in --model_args where it is, and with api_key_header which "
            "header takes it. An account may be out of credit.",
            "base_url usually ends with /v1: check base_url and model in --model_args.",
            "Then the same command with --retry-errors goes on, and asks those items again.",
        ),
    )
    server.model = _served_model(server, model)
    return server


def key_of(key: Any, variable: str | None, file: str | None, command: str | None) -> ApiKey:
    """Return the key from where it is kept.

    Parameters
    ----------
    key : object
        A key among the arguments, which is refused.
    variable, file, command : str or None
        At most one; none of them: the variable `KEY_VARIABLE`, which may be unset.

    Raises
    ------
    ConfigError
        When there is no key where one was said to be.
    """
    if key is not None:
        raise ConfigError(
            "model_args are written beside the results: put the key into the environment "
            f"variable {KEY_VARIABLE}, or say with api_key_env, api_key_file or api_key_command where it is."
        )
    places = {"api_key_env": variable, "api_key_file": file, "api_key_command": command}
    given = [name for name, value in places.items() if value]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)}: say one place for the key.")
    if file:
        return ApiKey.of_file(file)
    if command:
        return ApiKey.of_command(command)
    return ApiKey.of_variable(variable or KEY_VARIABLE, required=bool(variable))


def _served_model(server: ChatServer, model: str | None) -> str:
    listed = server.served_models()
    if model:
        # Gemini lists models/NAME.
        if listed and not {model, f"models/{model}"} & {*listed}:
            logger.warning("%s lists %s, not %s", server.url, _few(listed), model)
        return str(model)
    if listed and len(listed) == 1:
        return listed[0]
    known = f"It lists: {_few(listed)}." if listed else "It lists none."
    raise ConfigError(f"which model of {server.url}? Add model=NAME to --model_args. {known}")


def _few(names: list[str]) -> str:
    """Return names for a message; clouds list hundreds."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
