"""The demo's web server: starts gradio with the page and its queue, and sets what it answers and to whom."""

from __future__ import annotations

import ipaddress
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.errors import UserError
from generation.demo.request_queue import MAX_WAITING
from generation.options import ModelOptions

if TYPE_CHECKING:
    import gradio as gr

    from generation.loading import LoadedModel

LOOPBACK = "127.0.0.1"
FIRST_PORT = 7860  # gradio's: it takes the first free one of a hundred
LARGEST_FILE = "20mb"  # of an upload, in gradio's notation
LARGEST_REQUEST = 100_000  # bytes: of any other request; two prompts in the widest letters are 24,000
# The page needs nothing from elsewhere; should a part of gradio ask all the same, the browser refuses.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; form-action 'self'; frame-ancestors 'none'; base-uri 'self'"
)
Message = MutableMapping[str, Any]


class SecurityHeaders:
    """ASGI middleware: tells the browser to load nothing from elsewhere and to send no referrer."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self._app = app

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = {"content-security-policy": POLICY, "referrer-policy": "no-referrer"}
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in extra.items())]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


class RequestLimit:
    """ASGI middleware: refuses requests larger than any that the page sends. Uploads have gradio's own limit."""

    def __init__(self, app: Callable[..., Awaitable[None]]):
        self._app = app

    async def __call__(self, scope: Message, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        status = None
        if scope["type"] == "http" and not scope["path"].endswith("/upload"):
            headers = dict(scope["headers"])
            if b"transfer-encoding" in headers:
                status = 411  # its length would have to be counted
            elif int(headers.get(b"content-length", 0)) > LARGEST_REQUEST:
                status = 413
        if status is None:
            await self._app(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body"})


def demo_command(options: ModelOptions, address: str = LOOPBACK, port: int | None = None) -> int:
    """Serve the page until the user ends it.

    Raises:
        UserError: the model cannot be loaded, or the port is taken.
    """
    from generation.loading import load_for_command

    model = load_for_command(options)
    # what ends a service must also empty the folder: people's photos are in it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="face-makeup-demo-", ignore_cleanup_errors=True) as folder:
        try:
            page = serve(model, Path(folder), address, port)
        except OSError as error:
            raise UserError(f"--listen {address} --port {port or FIRST_PORT}: {error}") from error
        print("\n".join(startup_lines(model.notes, page.local_url, address)), flush=True)
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)
    return 0


def serve(model: LoadedModel, folder: Path, address: str = LOOPBACK, port: int | None = None) -> gr.Blocks:
    """Start the page in threads of this process; the gradio page, with `.local_url` and `.close()`.

    Args:
        model: of `generation.loading.load_model`.
        folder: for uploads and drawn files; the caller removes it.
        port: None: the first free one from 7860.

    Raises:
        OSError: the port is taken.
    """
    # gradio reads these when it is imported or builds its first widget
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    # gradio asks its own page whether it is up: a proxy must not be asked instead
    for name in ("no_proxy", "NO_PROXY"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), LOOPBACK, "localhost"]))
    import gradio as gr
    from starlette.middleware import Middleware

    from generation.demo.page import build_page
    from generation.demo.texts import CSS, SCRIPT

    fonts = ["ui-sans-serif", "system-ui", "Segoe UI", "Noto Sans", "Roboto", "Helvetica", "Arial", "sans-serif"]
    theme = gr.themes.Default(primary_hue="teal", font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"])
    readable = {"body_text_color_subdued": "*neutral_600", "body_text_color_subdued_dark": "*neutral_300"}
    readable |= {name.replace("body_text_color_subdued", "block_info_text_color"): c for name, c in readable.items()}
    page = build_page(model, folder)
    page.queue(max_size=MAX_WAITING)
    page.launch(
        server_name=address,
        server_port=port,
        share=False,
        inbrowser=False,
        prevent_thread_lock=True,
        quiet=True,
        show_error=False,
        max_file_size=LARGEST_FILE,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        theme=theme.set(**readable),
        css=CSS,
        head=SCRIPT,
        app_kwargs={"middleware": [Middleware(SecurityHeaders), Middleware(RequestLimit)]},
    )
    return page


def startup_lines(notes: list[str], url: str, address: str) -> list[str]:
    """The lines that are printed when the page is up. `address`: what it listens on."""
    lines = [*notes, f"Face-MakeUp: {url} (Ctrl-C ends it)"]
    if not ipaddress.ip_address(address).is_loopback:
        lines.insert(-1, f"WARNING: --listen {address}: no password; whoever reaches this address can draw.")
    return lines
