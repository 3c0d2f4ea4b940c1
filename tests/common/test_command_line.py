"""From each error that an outsider can cause to its message; none prints a traceback, and a fault of ours always does."""

from __future__ import annotations

import errno
import os

import botocore.exceptions
import pytest
import ray.exceptions

from common.command_line import exit_code_of, message_of
from common.errors import UserError
from common.failures.damage import DamagedFile
from common.paths import PathError
from common.settings import RecipeError


def os_error(number: int, place: str | None = "/data/run/a.parquet") -> OSError:
    return OSError(number, os.strerror(number), place) if place else OSError(number, os.strerror(number))


MENDABLE = {
    "a recipe": (RecipeError("my.yaml: fetch.timout: did you mean `timeout`?"), "did you mean `timeout`"),
    "a damaged file": (DamagedFile("a.json is no JSON: restore this file from a copy"), "restore this file"),
    "a name no bucket holds": (PathError("keys are UTF-8"), "keys are UTF-8"),
    "no permission": (os_error(errno.EACCES), "/data/run/a.parquet: Permission denied: you have no permission there"),
    "not the owner": (os_error(errno.EPERM), "you have no permission there"),
    "read-only": (os_error(errno.EROFS), "the disk is read-only: take a folder on another one"),
    "full": (os_error(errno.ENOSPC), "the disk is full: make room"),
    "full, no name": (os_error(errno.ENOSPC, None), "No space left on device: the disk is full"),
    "quota": (os_error(errno.EDQUOT), "your quota is used up"),
    "a file in the way": (os_error(errno.ENOTDIR), "a part of this path is a file"),
    "a folder in the way": (os_error(errno.EISDIR), "this is a folder"),
    "a long name": (os_error(errno.ENAMETOOLONG), "take a shorter one"),
    "too many files": (os_error(errno.EMFILE), "ulimit -n"),
    "a network disk that went": (os_error(errno.ESTALE), "mount it again"),
    "a broken disk": (os_error(errno.EIO), "the disk or the network behind it fails"),
    "a bucket's 403": (PermissionError("Access Denied"), "Access Denied: no permission there: check the credentials"),
    "no credentials": (botocore.exceptions.NoCredentialsError(), "set AWS_ACCESS_KEY_ID"),
    "half of them": (
        botocore.exceptions.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
        "set both",
    ),
    "no store": (botocore.exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:9"), "AWS_ENDPOINT_URL"),
    "no profile": (botocore.exceptions.ProfileNotFound(profile="mine"), "correct AWS_PROFILE"),
    "a worker's node gone": (
        ray.exceptions.ActorUnavailableError("refused", None),
        "the same command goes on from here",
    ),
    "a raylet gone": (ray.exceptions.LocalRayletDiedError("died"), "the same command goes on from here"),
    "memory of a node": (ray.exceptions.OutOfMemoryError("Task was killed"), "take fewer workers"),
    "half an environment": (ModuleNotFoundError("No module named 'duckdb'", name="duckdb"), "run `make setup`"),
}
OURS = [
    TypeError("a fault"),
    KeyError("sha256"),
    AttributeError("x"),
    FileNotFoundError(errno.ENOENT, "No such file", "what we should have asked for"),
    OSError("no number"),
    ModuleNotFoundError("No module named 'common.gone'", name="common.gone"),
]


def fails(error: BaseException):
    def work():
        raise error

    return work


def test_ctrl_c_is_one_line_and_the_exit_code_of_a_shell(capsys):
    assert exit_code_of(fails(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err.startswith("stopped: interrupted; ") and "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("name", MENDABLE)
def test_what_a_person_can_mend_is_one_message_and_exit_code_2(name, capsys):
    error, words = MENDABLE[name]
    assert exit_code_of(fails(error)) == 2
    said = capsys.readouterr().err
    assert said.startswith("stopped: ") and words in said and said.count("\n") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("error", OURS, ids=repr)
def test_a_fault_of_ours_stays_a_traceback(error):
    with pytest.raises(type(error)):
        exit_code_of(fails(error))


@pytest.mark.parametrize("name", ["full", "a recipe", "no store"])
def test_it_is_found_behind_what_ray_wraps_around_it(name):
    error, words = MENDABLE[name]
    wrapped = ray.exceptions.RayTaskError("f", "a traceback", error).as_instanceof_cause()
    assert words in message_of(wrapped)
    outer = RuntimeError("a step failed")
    outer.__cause__ = wrapped
    assert words in message_of(outer)


def test_what_ray_data_adds_is_not_said():
    assert message_of(UserError("mend this\nFailed to apply UDF transform after 1/1 attempts")) == "mend this"
    assert "UDF" not in message_of(os_error(errno.ENOSPC, "Failed to apply UDF transform after 1/1 attempts"))


@pytest.mark.parametrize("handled", [UserError("mend this"), os_error(errno.ENOSPC)], ids=["ours", "disk"])
def test_a_mistake_in_handling_an_error_is_not_hidden_by_it(handled):
    def work():
        try:
            raise handled
        except type(handled):
            raise TypeError("in the handler")  # noqa: B904  that it is not stated is the point

    with pytest.raises(TypeError):
        exit_code_of(work)


def test_real_ones_of_this_disk(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    places = [tmp_path / "file" / "run", tmp_path / ("n" * 300)]
    if os.path.exists("/dev/full"):
        places.append("/dev/full")
    for place in places:

        def work(place=place):
            with open(place, "w") as file:
                file.write("x")

        assert exit_code_of(work) == 2, place
        assert str(place)[:40] in capsys.readouterr().err or place == "/dev/full"
