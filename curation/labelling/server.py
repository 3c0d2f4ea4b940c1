"""The labelling page's web server: loopback, a random key in every address, nothing from elsewhere."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from PIL import Image

from common.decode import ImageLimits, Undecodable, decode
from common.errors import UserError
from curation.calibration.label_table import LabelError
from curation.calibration.labels import Read
from curation.labelling.agreement import agreements
from curation.labelling.answers import Answers
from curation.labelling.opinions import Opinions

LOOPBACK = "127.0.0.1"
FOLDER = Path(__file__).parent
PAGE = {"": ("page.html", "text/html"), "page.js": ("page.js", "text/javascript"), "page.css": ("page.css", "text/css")}
SIDE, QUALITY = 1600, 90  # pixels, of a photo that is not zoomed into
LIMITS = ImageLimits(min_side=1, working_side=SIDE)  # a person may look at what the run would not take
LARGEST = 20_000  # bytes of a request
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass
class Labelling:
    """What is labelled: `photos` by name, `columns` with their words, the person's answers, and `beside`, another's."""

    photos: Mapping[str, Read]
    columns: Mapping[str, Any]
    answers: Answers
    opinions: Opinions
    beside: Answers | None = None
    names: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self.names = list(self.photos)

    def state(self) -> dict[str, Any]:
        """What the page needs once: the questions, the photos, and which of them have an answer."""
        done, apart = self.answers.answered(self.columns), self.apart()
        return {
            "columns": [{"name": name, "words": words} for name, words in self.columns.items()],
            "photos": self.names,
            "answered": [name in done for name in self.names],
            "apart": [name in apart for name in self.names],
            "table": self.answers.path,
            "beside": self.beside.path if self.beside else None,
        }

    def apart(self) -> set[str]:
        """Photos on which the two people differ."""
        return {photo for agreement in self.agreements() for photo in agreement.apart}

    def agreements(self) -> list[Any]:
        if self.beside is None:
            return []
        mine, theirs = ({name: table.of(name) for name in self.names} for table in (self.answers, self.beside))
        return agreements(mine, theirs, self.columns)

    def about(self, name: str) -> dict[str, Any]:
        """The answers about a photo; the other person's only once all that is asked for has been answered."""
        own = self.answers.of(name)
        seen = self.beside is not None and all(own.get(column) for column in self.columns)
        return {"answers": own, "beside": self.beside.of(name) if seen and self.beside else None}


def picture_of(data: bytes, full: bool) -> bytes:
    """A JPEG for the browser, upright, of at most SIDE pixels unless `full`.

    Raises:
        Undecodable: why it cannot be shown.
    """
    decoded = decode(data, LIMITS, full_size=full)
    out = io.BytesIO()
    Image.fromarray(decoded.rgb if full else decoded.view(SIDE)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def application(labelling: Labelling, key: str) -> web.Application:
    """All answers of the server; each address begins with `key`, which no other page and no other person knows."""
    lock = asyncio.Lock()  # of the answers: one change at a time
    app = web.Application(client_max_size=LARGEST, middlewares=[_told])
    routes = web.RouteTableDef()

    def name_in(request: web.Request) -> str:
        number = int(request.match_info["number"])
        if number >= len(labelling.names):
            raise web.HTTPNotFound(text="no such photo")
        return labelling.names[number]

    async def data_of(request: web.Request) -> bytes:
        return await asyncio.to_thread(labelling.photos[name_in(request)])

    @routes.get(f"/{key}/state")
    async def state(request: web.Request) -> web.Response:
        return web.json_response(labelling.state())

    @routes.get(f"/{key}/photos/{{number:[0-9]+}}")
    async def photo(request: web.Request) -> web.Response:
        shown = await asyncio.to_thread(picture_of, await data_of(request), "full" in request.query)
        return web.Response(body=shown, content_type="image/jpeg")

    @routes.get(f"/{key}/answers/{{number:[0-9]+}}")
    async def answers_about(request: web.Request) -> web.Response:
        return web.json_response(labelling.about(name_in(request)))

    @routes.post(f"/{key}/answers/{{number:[0-9]+}}")
    async def put(request: web.Request) -> web.Response:
        told = await request.json()
        if not isinstance(told, dict) or not all(isinstance(value, str) for value in told.values()):
            raise web.HTTPBadRequest(text="answers are words by column")
        async with lock:
            await asyncio.to_thread(labelling.answers.put, name_in(request), told)
        return web.json_response(labelling.about(name_in(request)))

    @routes.post(f"/{key}/undo")
    async def undo(request: web.Request) -> web.Response:
        async with lock:
            name = await asyncio.to_thread(labelling.answers.undo)
        return web.json_response({"number": None if name is None else labelling.names.index(name)})

    @routes.get(f"/{key}/filters/{{number:[0-9]+}}")
    async def filters(request: web.Request) -> web.Response:
        return web.json_response(await asyncio.to_thread(labelling.opinions.of, await data_of(request)))

    @routes.get(f"/{key}/agreement")
    async def agreement(request: web.Request) -> web.Response:
        return web.json_response([str(line) for line in labelling.agreements()])

    @routes.get(f"/{key}/{{file:|page[.]js|page[.]css}}")
    async def page(request: web.Request) -> web.Response:
        file, kind = PAGE[request.match_info["file"]]
        return web.Response(body=(FOLDER / file).read_bytes(), content_type=kind, charset="utf-8")

    app.add_routes(routes)
    return app


@web.middleware
async def _told(request: web.Request, handler: Callable[..., Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """What a person can mend is told on the page; every answer says that nothing may be loaded from elsewhere."""
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = web.Response(status=error.status, text=error.text)
    except Undecodable as error:
        response = web.Response(status=422, text=f"cannot be shown: {error}")
    except LabelError as error:
        response = web.Response(status=409, text=str(error))
    except (UserError, OSError, ValueError) as error:
        response = web.Response(status=500, text=str(error))
    response.headers.update(HEADERS)
    return response


async def start(labelling: Labelling, port: int) -> tuple[web.AppRunner, str]:
    """Listen on the loopback; what to close in the end, and the page's address. `port` 0: a free one.

    Raises:
        UserError: the port is taken.
    """
    key = secrets.token_urlsafe(16)
    runner = web.AppRunner(application(labelling, key), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
    except OSError as error:
        await runner.cleanup()
        raise UserError(f"--port {port}: {error.strerror}: choose another") from error
    return runner, f"http://{LOOPBACK}:{runner.addresses[0][1]}/{key}/"
