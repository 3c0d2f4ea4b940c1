"""What the page does not take is refused by the server, too: whatever is sent past the widgets, and every bad photo."""

from __future__ import annotations

import io
import itertools
import json
import logging
import math
import re
import struct
import zlib

import httpx
import pytest
from PIL import Image

from generation.demo.drawing import DrawingRunner
from generation.demo.faces import read_upload
from generation.photos import PhotoError

ORDER = ["photo", "pick", "other", "other_pick", "policy", "alpha", "prompt", "negative", "ip", "control", "guidance",
         "shortcut", "seed", "steps", "count", "record_prompt"]  # fmt: skip
SETTINGS = {"policy": "only", "alpha": 0.5, "prompt": "", "negative": "", "ip": 0.6, "control": 0.6, "guidance": 7.5,
            "shortcut": 1, "seed": 42, "steps": 1, "count": 1, "record_prompt": False}  # fmt: skip
BY_GRADIO = r'"success": ?false'  # gradio's own check refuses it, and says nothing more


def bomb() -> bytes:
    """A PNG of a hundred bytes that says to be 100,000 pixels wide and high."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def encoded(file_format: str, size: tuple[int, int] = (64, 64)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size).save(out, file_format)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The file is empty: take another JPEG, PNG or WebP photo."),
        (b"hello", "The file is no picture: take another JPEG, PNG or WebP photo."),
        (bomb(), "The picture has more than 50 megapixels: save a smaller copy of it, as JPEG, and add that."),
        (encoded("GIF"), "GIF files are not read: save the photo as JPEG or PNG, and add that."),
        (b"\0\0\0\x10ftypheic\0\0\0\0", "HEIC files are not read: save the photo as JPEG or PNG, and add that."),
        (encoded("PNG", (9, 9)), "The picture is smaller than 32 pixels: take another JPEG, PNG or WebP photo."),
        (encoded("JPEG", (640, 640))[:1500], "The file ends in the middle of the picture: copy it anew"),
    ],
)
def test_a_file_that_is_no_photo_is_one_sentence(tmp_path, data, sentence):
    (tmp_path / "photo.jpg").write_bytes(data)
    with pytest.raises(PhotoError, match=re.escape(sentence)):
        read_upload(tmp_path / "photo.jpg")


class Caller:
    """Somebody who speaks to the server without a browser."""

    def __init__(self, url: str):
        self._http = httpx.Client(base_url=f"{url}gradio_api/", timeout=60, trust_env=False)
        events = httpx.get(f"{url}config", trust_env=False).json()["dependencies"]
        self._draw = next(event["id"] for event in events if len(event["inputs"]) == len(ORDER))
        self._sessions = (f"caller{number}" for number in itertools.count())

    def upload(self, data: bytes) -> httpx.Response:
        return self._http.post("upload", files={"files": ("photo.jpg", data)})

    def draw(self, **values: object) -> str:
        """All that the server answers to a drawing that is asked for; a status where it does not take the request."""
        session = next(self._sessions)
        data = [values.get(name, SETTINGS.get(name)) for name in ORDER]
        body = json.dumps({"data": data, "fn_index": self._draw, "session_hash": session})
        asked = self._http.post("queue/join", content=body, headers={"content-type": "application/json"})
        if asked.status_code != 200:
            return str(asked.status_code)
        answer = ""
        with self._http.stream("GET", "queue/data", params={"session_hash": session}) as news:
            for line in news.iter_lines():
                answer += line
                if "process_completed" in line:
                    break
        return answer


@pytest.fixture(scope="module")
def caller(page) -> Caller:
    return Caller(page.local_url)


@pytest.fixture(scope="module")
def photo(caller, portraits) -> dict[str, object]:
    return uploaded(caller, portraits["obama"].read_bytes())


def uploaded(caller: Caller, data: bytes) -> dict[str, object]:
    return {"path": caller.upload(data).json()[0], "meta": {"_type": "gradio.FileData"}}


@pytest.mark.parametrize(
    ("name", "value", "refusal"),
    [
        ("prompt", "x" * 1001, "A prompt has at most 1000 letters"),
        ("negative", "x" * 1001, "A prompt has at most 1000 letters"),
        ("prompt", "x" * 1_000_000, "413"),
        ("steps", 0, BY_GRADIO),
        ("steps", 101, BY_GRADIO),
        ("steps", math.nan, "cannot convert float NaN to integer"),
        ("steps", "many", BY_GRADIO),
        ("count", 9, BY_GRADIO),
        ("seed", -1, BY_GRADIO),
        ("seed", 2**31, BY_GRADIO),
        ("seed", None, "There is no seed"),
        ("ip", 1e30, BY_GRADIO),
        ("ip", math.nan, "Take 0 to 1 as scale"),
        ("guidance", math.nan, "Take 0 to 10 as guidance scale"),
        ("alpha", math.nan, "Take 0 to 1 as the share of the second face"),
        ("policy", "match_box", BY_GRADIO),
        ("photo", None, "There is no photo yet"),
    ],
)
def test_a_limit_holds_for_who_does_not_use_the_page(caller, photo, name, value, refusal):
    answer = caller.draw(**{"photo": photo, name: value})
    assert re.search(refusal, answer, re.IGNORECASE) and "seed-" not in answer, answer[-500:]


def test_what_is_within_the_limits_is_drawn(caller, photo):
    assert "face-makeup-seed-42.png" in caller.draw(photo=photo, prompt="x" * 1000)


def test_files_of_too_many_bytes_or_pixels_are_refused(caller):
    assert caller.upload(bytes(21_000_000)).status_code == 413
    assert "more than 50 megapixels" in caller.draw(photo=uploaded(caller, bomb()))


def test_nothing_of_a_prompt_is_printed(caller, photo, capfd, monkeypatch):
    printed = io.StringIO()
    handler = logging.StreamHandler(printed)
    for library in ("diffusers", "transformers"):
        logging.getLogger(library).addHandler(handler)
    prompt = "a " * 100 + "secret"
    assert "The picture is ready" in caller.draw(photo=photo, prompt=prompt)

    def fail(*arguments: object) -> None:
        raise KeyError(prompt)

    monkeypatch.setattr(DrawingRunner, "_draw", fail)
    assert "The drawing failed" in caller.draw(photo=photo, prompt=prompt)
    for library in ("diffusers", "transformers"):
        logging.getLogger(library).removeHandler(handler)
    out, err = capfd.readouterr()
    assert "KeyError" in err and "in fail" in err, "where it failed is printed"
    assert "secret" not in out + err + printed.getvalue()
