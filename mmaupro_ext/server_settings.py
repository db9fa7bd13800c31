"""How a chat server is reached and treated, and what messages call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.failing import ALIKE
from mmaupro_ext.masking import keep_out, masked


@dataclass(frozen=True)
class ServerSettings:
    """How a server is treated.

    Attributes
    ----------
    concurrency : int
        Requests under way at a time.
    per_minute : float or None
        Requests started per minute at most, repeated ones included; None for no limit.
    timeout_s : float
        Seconds within which the last byte of an answer must have come.
    tries : int
        Requests per item at most.
    backoff_s, longest_wait_s : float
        Seconds before the second try, doubled before each further one and varied by a quarter, and
        their maximum; a server's Retry-After is obeyed up to the same maximum.
    grace_s : float
        Seconds that a run which ends early waits for the answers already under way; after Ctrl-C less
        than one (`fan_out`).
    patience : int
        Items in a row without any answer of the server, after which it counts as gone: each further
        item is tried once only, until the server answers again. So many items in a row whose key,
        address or model is refused end everything.
    largest_mb : float or None
        A larger request, in 10^6 bytes, is not sent; None for no bound.
    """

    concurrency: int = 8
    per_minute: float | None = None
    timeout_s: float = 120.0
    tries: int = 6
    backoff_s: float = 1.0
    longest_wait_s: float = 120.0
    grace_s: float = 10.0
    patience: int = ALIKE
    largest_mb: float | None = None

    def __post_init__(self) -> None:
        positive = (
            self.concurrency,
            self.timeout_s,
            self.tries,
            self.longest_wait_s,
            self.patience,
            1.0 if self.per_minute is None else self.per_minute,
            1.0 if self.largest_mb is None else self.largest_mb,
        )
        if min(positive) <= 0 or self.backoff_s < 0 or self.grace_s < 0:
            raise ConfigError(f"the settings of a server must be positive: {self}")


@dataclass(frozen=True)
class Wording:
    """How messages call a server, and what the user can do about it.

    Attributes
    ----------
    name : str
        For example "the judge".
    key_fix, address_fix : str
        Sentences for a refused key, and for an address or a model that does not exist.
    refused_fix : str
        A sentence for items that were refused before everything ended.
    """

    name: str
    key_fix: str
    address_fix: str
    refused_fix: str = ""


def checked_address(url: str, name: str) -> str:
    """Return a base address in one form.

    Parameters
    ----------
    url : str
        Base address.
    name : str
        How messages call the server.

    Raises
    ------
    ConfigError
        When it is none, or when a key may be in it: addresses are written beside results.
    """
    try:
        parts = urlsplit(url)
        secret = parts.username is not None or bool(parts.query or parts.fragment)
    except ValueError:  # brackets, say; what sends a request says what is wrong
        parts, secret = None, "@" in url or "?" in url
    if secret or (parts is not None and "@" in parts.path):
        raise ConfigError(
            f"the address of {name} is written beside the results: take name and password, query and "
            "fragment out of it. A key belongs into the environment, other things into query or headers."
        )
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"the address of {name} must begin with http:// or https://: {url!r}")
    return url.rstrip("/").removesuffix("/chat/completions")


def checked_headers(headers: Mapping[str, str], key_header: str) -> dict[str, str]:
    """Return headers as text without white space around it, and keep their values out of texts.

    Parameters
    ----------
    headers : mapping
        Names and values.
    key_header : str
        One more name, for the key.

    Raises
    ------
    ConfigError
        When one cannot be sent.
    """
    keep_out(headers)
    found = {str(name): str(value).strip() for name, value in headers.items()}
    for name, value in (*found.items(), (key_header, "")):
        is_name = bool(name) and all(letter.isalnum() or letter in "-_" for letter in name)
        if not (is_name and name.isascii() and value.isascii() and (value + "a").isprintable()):
            raise ConfigError(
                f"headers: {masked(name)!r} is no header that can be sent: names have letters, digits, - "
                "and _, values one line of ASCII. The value is not shown here."
            )
    return found
