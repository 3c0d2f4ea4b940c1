"""The demo page: a photo and a prompt in the browser, pictures of that face out.

python jobs/demo.py                                              the tiny model: tries the program
python jobs/demo.py --model exported/                            a folder that was exported
python jobs/demo.py --model sd15 --checkpoint model.bin

It answers only this computer unless --listen names another address, and never sends anything out by itself.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

LOOPBACK = "127.0.0.1"
FIRST_PORT, LAST_PORT = 7860, 7959
LARGEST_FILE = "20mb"
# The page needs nothing from elsewhere; should a part of gradio ask all the same, the browser refuses.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; form-action 'self'; frame-ancestors 'none'; base-uri 'self'"
)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help="an exported folder, or sd15, tiny, a YAML file (%(default)s)")
    parser.add_argument("--checkpoint", help="authors' model.bin, IP-Adapter-FaceID-Plus, our own, ...")
    parser.add_argument("--base", help="folder or hub name of Stable Diffusion 1.5")
    parser.add_argument("--image-encoder", help="folder or hub name of the CLIP image encoder")
    parser.add_argument("--vae", help="folder or hub name of the VAE")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=["auto", "fp32", "fp16", "bf16"])
    parser.add_argument("--offload", action="store_true", help="for a GPU with little memory")
    parser.add_argument("--port", type=int, help=f"default: the first free one from {FIRST_PORT}")
    parser.add_argument(
        "--listen", metavar="ADDRESS", type=address, default=LOOPBACK, help="e.g. 0.0.0.0: all; default: %(default)s"
    )
    return parser


class Sealed:
    """ASGI: every answer tells the browser to load nothing from elsewhere and to tell nobody where it comes from."""

    def __init__(self, app: Any):
        self._app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        async def sealed(message: dict) -> None:
            if message["type"] == "http.response.start":
                extra = {"content-security-policy": POLICY, "referrer-policy": "no-referrer"}
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in extra.items())]
            await send(message)

        await self._app(scope, receive, sealed if scope["type"] == "http" else send)


def serve(artist: Any, folder: Path, address: str = LOOPBACK, port: int | None = None) -> Any:
    """Start the page in threads of this process; the gradio page, with `.local_url` and `.close()`.

    Args:
        artist: of `generation.drawing.open_artist`.
        folder: for uploads and drawn files; whoever made it removes it.
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
    from generation.demo.texts import CSS

    fonts = ["ui-sans-serif", "system-ui", "Segoe UI", "Noto Sans", "Roboto", "Helvetica", "Arial", "sans-serif"]
    theme = gr.themes.Default(primary_hue="teal", font=fonts, font_mono=["ui-monospace", "Consolas", "monospace"])
    readable = {"body_text_color_subdued": "*neutral_600", "body_text_color_subdued_dark": "*neutral_300"}
    readable |= {name.replace("body_text_color_subdued", "block_info_text_color"): c for name, c in readable.items()}
    page = build_page(artist, folder)
    page.queue(max_size=64)
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
        app_kwargs={"middleware": [Middleware(Sealed)]},
    )
    return page


def address(text: str) -> str:
    """An IP address, as `--listen` takes it."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text} is no IP address: give one of this machine's, e.g. 0.0.0.0"
        ) from error


def greeting(notes: list[str], url: str, address: str) -> list[str]:
    """The lines that are printed when the page is up. `address`: what it listens on."""
    lines = [*notes, f"Face-MakeUp: {url} (Ctrl-C ends it)"]
    if not ipaddress.ip_address(address).is_loopback:
        lines.insert(-1, f"WARNING: --listen {address}: no password; whoever reaches this address can draw.")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """0: ended by the user; 2: nothing was begun, and why."""
    asked = parser().parse_args(arguments)
    from generation.drawing import open_artist

    try:
        artist = open_artist(
            asked.model, asked.checkpoint, asked.base, asked.image_encoder, asked.vae,
            device=asked.device, dtype=asked.dtype, offload=asked.offload,
        )  # fmt: skip
    except (ValueError, RuntimeError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    # what ends a service must also empty the folder: people's photos are in it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="face-makeup-demo-", ignore_cleanup_errors=True) as folder:
        try:
            page = serve(artist, Path(folder), asked.listen, asked.port)
        except OSError as error:
            print(f"--listen {asked.listen} --port {asked.port or FIRST_PORT}: {error}", file=sys.stderr)
            return 2
        print("\n".join(greeting(artist.notes, page.local_url, asked.listen)), flush=True)
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
