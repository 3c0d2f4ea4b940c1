"""docker/Dockerfile: linted, in step with the lock, small where it must be, and with nothing inside that must not be."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docker.image import (
    DOCKERFILE,
    IGNORE,
    ROOT,
    Step,
    _here,
    assignments,
    context,
    instructions,
    make_environment,
    steps,
)

TEXT = (ROOT / DOCKERFILE).read_text()


def lint(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "Dockerfile").write_text(text)
    command = [Path(sys.executable).parent / "hadolint", "--no-color", folder / "Dockerfile"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_hadolint_finds_nothing(tmp_path):
    result = lint(TEXT, tmp_path)
    assert (result.returncode, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("there", "planted", "rule"),
    [
        ("FROM python:3.11-slim-bookworm", "FROM python", "DL3006"),
        ("USER 1000", "USER root", "DL3002"),
        ("WORKDIR /facemakeup", "WORKDIR facemakeup", "DL3000"),
        (" --no-install-recommends", "", "DL3015"),
        ("COPY . .", "COPPY . .", "unexpected"),
        ("HEALTHCHECK --interval=10s", "HEALTHCHECK --intervall=10s", "invalid flag: --intervall"),
        ('"$TORCH_BACKEND"\n', '"$TORCH_BACKEND\n', "SC1"),
        ('CMD ["ray", "start", "--head"', 'CMD ["ray", "start" "--head"', "DL3025"),
    ],
)
def test_hadolint_finds_what_is_planted(tmp_path, there, planted, rule):
    assert TEXT.count(there) == 1
    result = lint(TEXT.replace(there, planted), tmp_path)
    assert result.returncode == 1 and rule in result.stdout + result.stderr


def test_the_labels_say_what_is_installed():
    labels = dict(re.findall(r'facemakeup\.(\w+)="([^"]+)"', TEXT))
    (ray,) = re.findall(r"^ray==(\S+)", (ROOT / "requirements/lock.txt").read_text(), re.M)
    assert labels == {"ray": ray, "python": re.search(r"^FROM python:([\d.]+)", TEXT, re.M)[1]}


def test_the_environment_is_made_as_everywhere():
    runs = [step.value for step in steps() if step.word == "RUN"]
    assert sum("make -f requirements/setup.mk setup" in run for run in runs) == 1
    assert not any(re.search(r"\b(pip|uv|conda)\b.*install", run) for run in runs)


def test_it_runs_without_rights_and_says_when_it_is_ill():
    words = instructions(TEXT)
    (user,) = [value for word, value in words if word == "USER"]
    assert user.isdecimal() and int(user) > 0
    assert [word for word, _ in words].index("USER") > max(at for at, (word, _) in enumerate(words) if word == "RUN")
    assert any(word == "HEALTHCHECK" and "/api/healthz" in value for word, value in words)
    assert (
        dict(assignments(next(value for word, value in words if "RAY_AUTH_MODE" in value)))["RAY_AUTH_MODE"] == "token"
    )


def test_only_code_is_sent():
    sent = context(ROOT)
    rooms = {"common", "curation", "evaluation", "generation", "jobs", "model", "training"}
    assert {Path(name).parts[0] for name in sent} == {"requirements", *rooms}
    assert not [name for name in sent if name.endswith((".onnx", ".safetensors", ".pt", ".bin", ".env"))]
    assert sum((ROOT / name).stat().st_size for name in sent) < 8 << 20


def test_code_that_changes_rebuilds_the_last_steps_alone(tmp_path):
    """By Docker's rule: a step is done again when it, what it copies, or a step before it has changed."""
    for name in [*context(ROOT), DOCKERFILE, IGNORE]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)

    def again(changed: str) -> list[Step]:
        before = {step.key for step in steps(tmp_path)}
        (tmp_path / changed).write_text((tmp_path / changed).read_text() + "# changed\n")
        return [step for step in steps(tmp_path) if step.key not in before]

    code = [step.value for step in again("common/hashing.py") if step.word in ("COPY", "RUN")]
    assert code == [". .", "python -m compileall -q common curation evaluation generation jobs model training"]
    assert any("setup.mk" in step.value for step in again("requirements/lock.txt") if step.word == "RUN")


def test_a_folder_of_this_machine_stands_for_the_image(tmp_path):
    assert _here("/facemakeup/.venv/bin:$PATH", tmp_path) == f"{tmp_path}/facemakeup/.venv/bin:$PATH"
    assert _here("/cache", tmp_path) == f"{tmp_path}/cache" and _here("/usr/cache", tmp_path) == "/usr/cache"
    assert dict(assignments('A=b C="d e"')) == {"A": "b", "C": "d e"}
    assert instructions("# no\nRUN a \\\n  # within\n && b\nUSER x") == [("RUN", "a   && b"), ("USER", "x")]


def test_the_steps_are_played_once_each(tmp_path):
    """A small Dockerfile; the real one's takes a minute, and is played by `python -m tests.docker`."""
    root, folder = tmp_path / "root", tmp_path / "folder"
    for name, text in {
        str(
            DOCKERFILE
        ): "FROM x\nRUN exit 1\nWORKDIR /facemakeup\nARG WHO=you\nENV PATH=/facemakeup/bin:$PATH \\\n  A=/cache\n"
        'COPY pins/ pins/\nRUN --mount=type=cache,target=/x echo "$WHO $A $(cat pins/a)" >>log\nCOPY . .\nRUN ls code >>log\nUSER 1\n',
        str(IGNORE): "*\n!pins\n!code\n**/__pycache__\n",
        "pins/a": "1",
        "code/old.py": "",
        "secret": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    image = make_environment(folder, root)
    log = folder / "facemakeup" / "log"
    assert log.read_text() == f"you {folder}/cache 1\nold.py\n"
    assert image.variables["PATH"].startswith(f"{folder}/facemakeup/bin:") and image.bin.parent.parent == image.code
    assert not (image.code / "secret").exists()

    (root / "code/old.py").rename(root / "code/new.py")
    make_environment(folder, root)
    assert log.read_text() == f"you {folder}/cache 1\nold.py\nnew.py\n"
    make_environment(folder, root)
    assert len(log.read_text().splitlines()) == 3
