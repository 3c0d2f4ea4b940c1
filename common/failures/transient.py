"""Failures of the world: a bucket that answers 503, a connection that breaks, memory that is short for a moment.

They say nothing about an image, and are over in seconds or minutes. What fails so is tried again, more and more slowly,
for a limited time, and counted. Nothing else is tried again: a file that is not there stays away, a full disk stays full.
"""

from __future__ import annotations

import errno
import functools
import http.client
import random
import threading
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from common.errors import UserError
from common.failures.mendable import first_line

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

PATIENCE = 600.0  # seconds; an outage of a store or a network that is longer wants a person
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds

PASSING = frozenset(
    # EBUSY is how s3fs names 503 and 409, EREMOTEIO how it names 500
    [errno.EAGAIN, errno.EBUSY, errno.EINTR, errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.EPIPE, errno.ETIMEDOUT,
     errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
     errno.ENETRESET, errno.ENETUNREACH, errno.ENOBUFS, errno.ENOMEM]
)  # fmt: skip
# by module and class, with whatever is derived from them: these packages are imported only where a bucket is used
PASSING_CLASSES = {
    "aiohttp": {"ClientConnectionError", "ClientPayloadError", "ServerTimeoutError"},
    "botocore": {"ConnectionError", "HTTPClientError", "IncompleteReadError", "ResponseStreamingError"},
    "urllib3": {"ProtocolError", "TimeoutError", "IncompleteRead"},
    "gcsfs": {"ChecksumError"},
}
OVERLOADED = {"429", "500", "502", "503", "504", "SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout",
              "RequestTimeoutException", "Throttling", "ThrottlingException", "TooManyRequestsException"}  # fmt: skip
# what native libraries say of it: they have no class of their own
SHORT_OF_MEMORY = (
    "failed to allocate",
    "out of memory",
    "insufficient memory",
    "cuda_error_out_of_memory",
    "bad allocation",
)


class StillFailing(UserError, RuntimeError):
    """What was tried again for `PATIENCE` and failed still; the message says what, and that the command goes on."""


def is_transient(error: BaseException) -> bool:
    """Whether an error is the world's: the same call may succeed in a moment."""
    if isinstance(error, UserError):
        return False
    if isinstance(error, (MemoryError, TimeoutError, ConnectionError, http.client.IncompleteRead)):
        return True
    if isinstance(error, OSError) and error.errno in PASSING:
        return True
    for kind in type(error).__mro__:
        if kind.__name__ in PASSING_CLASSES.get(kind.__module__.split(".")[0], ()):
            return True
    return answer_code(error) in OVERLOADED or is_memory(error)


def is_memory(error: BaseException) -> bool:
    """Whether a machine or its GPU had too little memory, however the library says so: no fault of an image."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    native = type(error) is RuntimeError or type(error).__module__.split(".")[0] in ("onnxruntime", "torch", "cv2")
    return native and any(words in str(error).lower() for words in SHORT_OF_MEMORY)


def answer_code(error: BaseException | None) -> str:
    """The error code of an object store's answer; "" where there is none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return str(response.get("Error", {}).get("Code", ""))
    return str(getattr(error, "status", None) or getattr(error, "code", None) or "")


def is_overload(error: BaseException) -> bool:
    """Whether an error is an object store's own word that it has too much to do: it is there, and is asked again."""
    return answer_code(error) in OVERLOADED or answer_code(error.__cause__) in OVERLOADED


_retried = 0
_lock = threading.Lock()


def times_retried() -> int:
    """How often something was tried again in this process, and in the workers that have told of it."""
    return _retried


def add_retried(times: int) -> None:
    """Count what was tried again, here or in a worker."""
    global _retried
    with _lock:
        _retried += times


def counting_retries(call: Callable[Arguments, Result], *arguments: Arguments.args) -> tuple[Result, int]:
    """What a call returns, and how often something was tried again in it."""
    before = times_retried()
    return call(*arguments), times_retried() - before


def patiently(call: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`call`, tried again for `PATIENCE` seconds while what it raises is the world's. It must be safe to do it twice.

    Raises:
        StillFailing: it failed so to the end.
    """

    @functools.wraps(call)
    def patient(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        wait, deadline = FIRST_WAIT, time.monotonic() + PATIENCE
        while True:
            try:
                return call(*arguments, **named)
            except Exception as error:
                if not is_transient(error):
                    raise
                if time.monotonic() + wait > deadline:
                    raise StillFailing(
                        f"{first_line(error)}: failed for {PATIENCE:.0f} s, tried again all the while. When the store, the "
                        "network or the machine's memory is well again, the same command goes on from here"
                    ) from error
            add_retried(1)
            # workers that failed together must not come back together
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, LONGEST_WAIT)

    return patient
