"""Command line: what is in a checkpoint, and conversion to another layout."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from model.checkpoints.convert import convert
from model.checkpoints.inspection import Report, inspect_checkpoint, sha256_of_path
from model.checkpoints.layouts import CheckpointError
from model.checkpoints.writing import LAYOUTS
from model.dtypes import DTYPES

EPILOG = """\
layouts:
  authors     model.bin as the authors publish it (torch pickle, read with weights_only)
  facemakeup  one .safetensors with all parts and metadata; stock load_ip_adapter reads it as it is
  ip-adapter  .bin or .safetensors without the ControlNet
  diffusers   a folder for stock diffusers, with a model card that has the code to load it
  pipeline    a folder for DiffusionPipeline.from_pretrained, base model included (--base)

also read: IP-Adapter-FaceID-Plus v1 and v2, and a trainer's raw output (accelerate's folder or its file)
"""

DRAW = 'python jobs/generate.py PHOTOS --prompt "a person reading" --out drawn/ '
NEXT = {layout: DRAW + "--model sd15 --checkpoint {}" for layout in LAYOUTS} | {
    "pipeline": DRAW + "--model {}",
    "diffusers": "the code of {}/README.md draws with it",
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.checkpoints",
        description="Face-MakeUp checkpoints: what is in a file, and from one layout to another. No code in a file runs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    look = commands.add_parser(
        "inspect",
        help="layout, sizes, dtypes, hash, what it lacks",
        description="Exit 0: complete; 1: it lacks something; 2: not a checkpoint.",
    )
    look.add_argument("file", help="a file, or the folder of a trainer or an export")
    look.add_argument("--json", action="store_true", help="for programs")
    change = commands.add_parser(
        "convert",
        help="write it in another layout",
        description="Exit 0: written; 2: refused, and nothing was written.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    change.add_argument("source", metavar="IN")
    change.add_argument("target", metavar="OUT")
    change.add_argument("--to", required=True, choices=LAYOUTS, help="layout of OUT")
    change.add_argument("--base", metavar="FOLDER", help="base model, a diffusers folder; needed for pipeline")
    change.add_argument(
        "--image-encoder", metavar="FOLDER", help="CLIP image encoder for pipeline; default: the base's"
    )
    change.add_argument("--vae", metavar="FOLDER", help="VAE for pipeline; default: the base's")
    change.add_argument("--dtype", choices=DTYPES, help="default: each tensor keeps its own; the loss is measured")
    change.add_argument(
        "--fold-lora", action="store_true", help="pipeline: add the LoRA to the UNet; the loss is measured"
    )
    change.add_argument("--force", action="store_true", help="replace OUT, if it is a file or an exported folder")
    change.add_argument("--allow-non-finite", action="store_true", help="write NaN and infinity too")
    for command in (look, change):
        command.add_argument(
            "--shortcut", action=argparse.BooleanOptionalAction, default=None, help="FaceID-Plus v2 (yes) or v1 (no), where IN does not say"
        )  # fmt: skip
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    try:
        return _inspect(options) if options.command == "inspect" else _convert(options)
    except CheckpointError as error:
        print(f"refused: {_printable_lines(error)}", file=sys.stderr)
    except OSError as error:  # a full disk, a base folder without one of its parts
        print(f"failed: {_printable_lines(error)}", file=sys.stderr)
    return 2


def _inspect(options: argparse.Namespace) -> int:
    with contextlib.redirect_stdout(sys.stderr):  # what libraries print when they are imported is no part of the report
        report = inspect_checkpoint(options.file, options.shortcut)
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        _print_table(report)
    return 1 if report["lacks"] or report["non_finite"] else 0


def _convert(options: argparse.Namespace) -> int:
    with contextlib.redirect_stdout(sys.stderr):
        source, notes = convert(
            options.source,
            options.target,
            options.to,
            shortcut=options.shortcut,
            base=options.base,
            image_encoder=options.image_encoder,
            vae=options.vae,
            dtype=options.dtype,
            fold_lora=options.fold_lora,
            force=options.force,
            allow_non_finite=options.allow_non_finite,
        )
    digest = sha256_of_path(Path(options.target).expanduser())
    target = _printable(options.target)
    print(f"{target}: {options.to}, from {source.metadata['layout']}, sha256 {digest}")
    for note in source.notes + notes:
        print(f"  {_printable(note)}")
    print(f"  next: {NEXT[options.to].format(shlex.quote(target))}")
    return 0


def _print_table(report: Report) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    words = {True: "yes", False: "no", None: "unknown"}
    facts = Table(show_header=False, box=None)
    for name, value in report.items():
        if name not in ("parts", "lacks", "notes", "non_finite", "metadata", "sha256"):
            facts.add_row(
                name.replace("_", " "), words[value] if value is None or isinstance(value, bool) else _plain(value)
            )
    for name, value in report["metadata"].items():
        facts.add_row(_plain(name), _plain(value))
    console.print(facts)
    console.print(f" sha256 {report['sha256']}", soft_wrap=True)  # whole, to be copied
    table = Table("part", "tensors", "parameters", "bytes", "dtypes")
    for name, part in report["parts"].items():
        dtypes = ", ".join(f"{dtype} x {count}" for dtype, count in part["dtypes"].items())
        table.add_row(name, str(part["tensors"]), f"{part['parameters']:,}", f"{part['bytes']:,}", dtypes)
    console.print(table)
    for note in report["notes"]:
        console.print(_plain(note))
    for key, count in report["non_finite"].items():
        console.print(f"not finite: {count} numbers of {key}", style="red", markup=False)
    for lack in report["lacks"]:
        console.print(f"lacks: {lack}", style="red", markup=False)
    if not report["lacks"] and not report["non_finite"]:
        console.print("complete and consistent", style="green")


def _plain(value: Any) -> str:
    """Text of a file as it may be printed, without markup."""
    from rich.markup import escape

    return escape(_printable(str(value)))


def _printable(text: str) -> str:
    """Without control characters and without what is no Unicode (names of files may have both)."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _printable_lines(error: Exception) -> str:
    return "\n".join(_printable(line) for line in str(error).splitlines())


if __name__ == "__main__":
    raise SystemExit(main())
