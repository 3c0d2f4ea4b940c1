"""Which failures are the world's, and for how long they are tried again."""

from __future__ import annotations

import copy
import errno
import http.client

import pytest

from common.errors import UserError
from common.failures import transient
from common.failures.transient import StillFailing, counting_retries, is_memory, is_transient, patiently, times_retried


def from_a_bucket(code: str, status: int) -> Exception:
    """What s3fs raises for an answer of an object store."""
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    answer = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(ClientError(answer, "GetObject"))


def of_a_library(module: str, name: str, *arguments: object) -> Exception:
    return getattr(__import__(module, fromlist=[name]), name)(*arguments)


class NoMoreMemory(Exception):
    __module__ = "onnxruntime.capi.onnxruntime_pybind11_state"


PASSING = {
    "503": lambda: from_a_bucket("503", 503),
    "slow down": lambda: from_a_bucket("SlowDown", 503),
    "internal error": lambda: from_a_bucket("InternalError", 500),
    "request time-out": lambda: from_a_bucket("RequestTimeout", 400),
    "throttling": lambda: from_a_bucket("ThrottlingException", 400),
    "connection cut": lambda: ConnectionResetError(errno.ECONNRESET, "x"),
    "network down": lambda: OSError(errno.ENETUNREACH, "x"),
    "disk error": lambda: OSError(errno.EIO, "x"),
    "stale handle": lambda: OSError(errno.ESTALE, "x"),
    "time-out": lambda: TimeoutError(),
    "asyncio's": lambda: TimeoutError(),
    "fsspec's": lambda: of_a_library("fsspec.exceptions", "FSTimeoutError"),
    "cut body": lambda: http.client.IncompleteRead(b"ab", 5),
    "aiohttp's": lambda: of_a_library("aiohttp", "ServerDisconnectedError"),
    "aiohttp's body": lambda: of_a_library("aiohttp", "ClientPayloadError", "x"),
    "urllib3's": lambda: of_a_library("urllib3.exceptions", "ProtocolError", "x"),
    "memory": lambda: MemoryError(),
    "no fork": lambda: OSError(errno.ENOMEM, "Cannot allocate memory"),
    "a GPU's memory": lambda: of_a_library("torch", "OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB"),
    "onnxruntime's": lambda: NoMoreMemory("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer"),
    "opencv's": lambda: of_a_library("cv2", "error", "(-4:Insufficient memory) Failed to allocate 9 bytes"),
}
LASTING = {
    "not there": lambda: FileNotFoundError(errno.ENOENT, "x"),
    "no key": lambda: from_a_bucket("NoSuchKey", 404),
    "no bucket": lambda: from_a_bucket("NoSuchBucket", 404),
    "no access": lambda: from_a_bucket("AccessDenied", 403),
    "bad request": lambda: from_a_bucket("InvalidArgument", 400),
    "full": lambda: OSError(errno.ENOSPC, "x"),
    "read-only": lambda: OSError(errno.EROFS, "x"),
    "taken": lambda: FileExistsError(errno.EEXIST, "x"),
    "ours": lambda: TypeError("x"),
    "a shape": lambda: RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
    "opencv's on an image": lambda: of_a_library("cv2", "error", "(-215:Assertion failed) !ssize.empty()"),
    "a person's": lambda: UserError("out of memory"),
    "tried already": lambda: StillFailing("503"),
}


@pytest.mark.parametrize("name", PASSING)
def test_a_failure_of_the_world_is_tried_again(name, monkeypatch):
    monkeypatch.setattr(transient, "FIRST_WAIT", 0.001)
    failures = [PASSING[name]() for _ in range(3)]

    def call(number):
        if failures:
            raise failures.pop()
        return number

    before = times_retried()
    assert counting_retries(patiently(call), 5) == (5, 3)
    assert times_retried() == before + 3


@pytest.mark.parametrize("name", LASTING)
def test_any_other_is_raised_at_once(name):
    calls = []

    def call():
        calls.append(1)
        raise LASTING[name]()

    with pytest.raises(type(LASTING[name]())):
        patiently(call)()
    assert len(calls) == 1 and not is_transient(LASTING[name]())


def test_short_memory_is_told_from_the_rest():
    assert {name for name, error in PASSING.items() if is_memory(error())} == {
        "memory", "no fork", "a GPU's memory", "onnxruntime's", "opencv's"
    }  # fmt: skip


def test_what_does_not_end_is_said_with_what_failed(monkeypatch):
    monkeypatch.setattr(transient, "PATIENCE", 0.02)
    monkeypatch.setattr(transient, "FIRST_WAIT", 0.001)

    def call():
        raise OSError(errno.EBUSY, "SlowDown: reduce your request rate")

    with pytest.raises(StillFailing, match="reduce your request rate.*the same command goes on from here") as told:
        patiently(call)()
    assert not is_transient(copy.copy(told.value)), "nobody waits for it a second time"
