"""A local Ray that answers only the processes which know its token.

Ray's processes listen on every interface of the machine, whatever address they are given, and whoever reaches one of
them without a token may run code as this user. With one, each listener refuses who does not know it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator

from ray._raylet import AuthenticationTokenLoader, Config

VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
PREFIX = "private-"  # tells a local Ray's token from a cluster's


@contextlib.contextmanager
def private_token() -> Iterator[None]:
    """What is started inside a `with` is a Ray of a new random token, which this process and its children know.

    Whatever the environment says of tokens is for the clusters that a person joins; it is put back afterwards. A `with`
    inside another has the other's token.
    """
    if os.environ.get("RAY_AUTH_TOKEN", "").startswith(PREFIX):
        yield
        return
    before = {name: os.environ.pop(name, None) for name in VARIABLES}
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=f"{PREFIX}{secrets.token_hex(32)}")
    _read_again()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        _read_again()


def _read_again() -> None:
    """Ray reads both variables when it is imported, which is long past. The mode comes first: with mode and without a
    token Ray's threads would end the process."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
