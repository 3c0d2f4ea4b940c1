"""A local Ray answers nobody who does not know its token: every listener of every process of it is asked."""

from __future__ import annotations

import http.client
import os
import urllib.error
import urllib.request

import grpc
import psutil
import pytest

from common.cluster import token
from common.cluster.token import VARIABLES, private_token

# a method of each service that Ray's processes offer
METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo",
    "JobInfoGcsService/GetAllJobInfo",
    "InternalKVGcsService/InternalKVKeys",
    "NodeManagerService/GetNodeStats",
    "ObjectManagerService/Pull",
    "CoreWorkerService/GetCoreWorkerStats",
    "ReporterService/GetTraceback",
)


def listeners() -> dict[tuple[str, int], str]:
    """(host, port) at which this process and what it started can be reached over the loopback; whose it is. One that is
    bound to the machine's own address alone is not asked: nothing here talks to any other than 127.0.0.1."""
    found = {}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        for socket in process.net_connections("tcp"):
            if socket.status == psutil.CONN_LISTEN and socket.laddr.ip in ("::", "0.0.0.0", "127.0.0.1"):
                found["127.0.0.1", socket.laddr.port] = process.name()
    return found


def answer_to_stranger(host: str, port: int) -> str:
    """What a client without a token is told: "refused", or what it got."""
    for path in ("/api/jobs/", "/metrics"):
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10) as response:
                return f"{path}: {response.status}"
        except urllib.error.HTTPError as error:
            if error.code not in (401, 403):
                return f"{path}: {error.code}"
            return "refused"
        except (OSError, http.client.HTTPException):
            pass  # it speaks gRPC
    codes = set()
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for method in METHODS:
            try:
                channel.unary_unary(f"/ray.rpc.{method}")(b"", timeout=10)
                return f"{method}: answered"
            except grpc.RpcError as error:
                codes.add(error.code())
    return "refused" if grpc.StatusCode.UNAUTHENTICATED in codes else f"{codes}"


def test_no_listener_of_a_local_ray_answers_a_stranger(ray_cluster):
    found = listeners()
    assert {"raylet", "gcs_server"} <= set(found.values())
    answers = {(name, port): answer_to_stranger(host, port) for (host, port), name in found.items()}
    assert set(answers.values()) == {"refused"}, answers


def test_a_token_is_new_each_time_and_what_was_set_comes_back():
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        tokens = set()
        for _ in range(2):
            with private_token():
                assert os.environ["RAY_AUTH_MODE"] == "token"
                tokens.add(os.environ["RAY_AUTH_TOKEN"])
                with private_token():
                    tokens.add(os.environ["RAY_AUTH_TOKEN"])
            assert [os.environ.get(name) for name in VARIABLES] == ["disabled", None, None]
        assert len(tokens) == 2 and all(len(token) > 64 for token in tokens)
    token._read_again()  # the shared Ray of this process has its token still
