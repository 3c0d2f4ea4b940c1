"""The demo page: a photo and a prompt in the browser, pictures of that face out.

python jobs/demo.py                                              the tiny model: tries the program
python jobs/demo.py --model exported/                            a folder that was exported
python jobs/demo.py --model sd15 --checkpoint model.bin

It answers only this computer unless --listen names another address, and never sends anything out by itself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from generation.demo.server import FIRST_PORT, LOOPBACK, demo_command
from generation.options import ModelOptions, add_model_options, ip_address, options_from


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument("--port", type=int, help=f"default: the first free one from {FIRST_PORT}")
    parser.add_argument(
        "--listen", metavar="ADDRESS", type=ip_address, default=LOOPBACK, help="e.g. 0.0.0.0: all; default: %(default)s"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """0: ended by the user; 2: nothing was begun, and why."""
    asked = parser().parse_args(arguments)
    from common.command_line import exit_code_of

    return exit_code_of(lambda: demo_command(options_from(ModelOptions, asked), asked.listen, asked.port))


if __name__ == "__main__":
    raise SystemExit(main())
