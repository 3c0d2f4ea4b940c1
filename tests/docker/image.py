"""Plays the steps of docker/Dockerfile without Docker: what its layers are made of, and its environment in a folder.

    make_environment(folder)      -> bin/, the code and the variables of the image, below a folder of this machine
    python -m tests.docker FOLDER    the same by hand

What stands before WORKDIR is the system's (apt-get, the user) and is left out: this machine must have make. A step whose
inputs have not changed since the folder was made is not done again, as in an image's build.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = Path("docker/Dockerfile")
IGNORE = Path("docker/Dockerfile.dockerignore")
HOME = "/facemakeup"  # the image's WORKDIR
# what is right for an image and slow for a folder of this machine
HERE = {"UV_COMPILE_BYTECODE": "0", "UV_LINK_MODE": "hardlink"}


@dataclass(frozen=True)
class Step:
    """One instruction. `key`: a hash of it, of all before it, and of the files that it copies: Docker's cache key."""

    word: str
    value: str
    key: str
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageEnvironment:
    """What a container of the image sees, in a folder. `variables`: its ENV, with the folder's paths."""

    code: Path
    variables: dict[str, str]

    @property
    def bin(self) -> Path:
        return self.code / ".venv" / "bin"


def instructions(text: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: its word and the rest of its lines, joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n", " ", lines)
    return [(line.split()[0].upper(), line.split(None, 1)[1].strip()) for line in joined.splitlines() if line.strip()]


def context(root: Path) -> list[str]:
    """The files that a build of `root` is sent: what the ignore file lets through."""
    lines = [line for line in (root / IGNORE).read_text().splitlines() if line and not line.startswith("#")]
    named = [line[1:] for line in lines if line.startswith("!")]
    if lines != ["*", *(f"!{name}" for name in named), "**/__pycache__"]:
        raise ValueError(f"{IGNORE}: only `*`, `!NAME` and `**/__pycache__` are understood here: {lines}")
    found = [path for name in named for path in sorted((root / name).rglob("*")) if path.is_file()]
    return [str(path.relative_to(root)) for path in found if "__pycache__" not in path.parts]


def steps(root: Path = ROOT) -> list[Step]:
    """The steps of the Dockerfile of `root` from WORKDIR on."""
    words = instructions((root / DOCKERFILE).read_text())
    start = words.index(("WORKDIR", HOME))
    key, sent, made = "", context(root), []
    for word, value in words[start + 1 :]:
        files: tuple[str, ...] = ()
        if word == "COPY":
            source, target = value.split()
            if source.rstrip("/") != target.rstrip("/"):
                raise ValueError(f"COPY {value}: only a copy to the same place is understood here")
            files = tuple(name for name in sent if source == "." or name.startswith(source))
        told = hashlib.sha256(f"{key}\n{word} {value}".encode())
        for name in files:
            told.update(name.encode() + b"\0" + (root / name).read_bytes())
        key = told.hexdigest()
        made.append(Step(word, value, key, files))
    return made


def assignments(value: str) -> Iterator[tuple[str, str]]:
    for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|(\S*))', value):
        yield name, quoted or plain


def make_environment(folder: Path, root: Path = ROOT) -> ImageEnvironment:
    """Play the Dockerfile's steps into `folder`, those that have to be."""
    home, record = folder / HOME.lstrip("/"), folder / "steps.json"
    home.mkdir(parents=True, exist_ok=True)
    done = json.loads(record.read_text()) if record.exists() else []
    system = f"{Path(sys.base_prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"
    variables = {"PATH": system}
    for number, step in enumerate(steps(root)):
        if step.word in ("ARG", "ENV"):
            for name, value in assignments(step.value):
                variables[name] = _here(value, folder).replace("$PATH", variables["PATH"])
        if done[number : number + 1] == [step.key]:
            continue
        done = done[:number]
        if step.word == "COPY":
            _copy(step.files, root, home)
        elif step.word == "RUN":
            command = re.sub(r"--mount=\S+\s*", "", step.value)
            environment = {**_of_this_machine(), **variables, **HERE}
            subprocess.run(["bash", "-ec", command], cwd=home, env=environment, check=True)
        done.append(step.key)
        record.write_text(json.dumps(done))
    return ImageEnvironment(home, variables)


def _here(value: str, folder: Path) -> str:
    """A value of ENV with the image's folders in `folder`."""
    return re.sub(r"(?<![\w$])/(facemakeup|cache)\b", lambda match: f"{folder}/{match[1]}", value)


def _of_this_machine() -> dict[str, str]:
    """What installing needs to know of this machine, without a word of the environment that the tests run in."""
    kept = ("HOME", "LANG", "PIP_", "UV_", "SSL_", "http_proxy", "https_proxy", "no_proxy")
    return {name: value for name, value in os.environ.items() if name.startswith(kept)}


def _copy(files: tuple[str, ...], root: Path, home: Path) -> None:
    for top in {Path(name).parts[0] for name in files}:  # what is gone from the project goes here too
        shutil.rmtree(home / top, ignore_errors=True)
    for name in files:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, home / name)
