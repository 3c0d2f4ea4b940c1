"""Face-MakeUp checkpoints: from any layout in use to any that others can load, and what is in a file.

    python -m model.checkpoints.convert inspect FILE
    python -m model.checkpoints.convert convert IN OUT --to LAYOUT

In programs: `read(path)` -> `Checkpoint`, `write(checkpoint, path, layout)`, `inspect(path)`, `convert(...)`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from model.checkpoints.layouts import CheckpointError
from model.checkpoints.reading import read, read_unchecked
from model.checkpoints.state import Checkpoint, bit_equal
from model.checkpoints.writing import DTYPES, LAYOUTS, write

__all__ = ["Checkpoint", "CheckpointError", "bit_equal", "convert", "inspect", "read", "read_unchecked", "write"]

EPILOG = """\
layouts:
  authors     model.bin as the authors publish it (torch pickle, read with weights_only)
  facemakeup  one .safetensors with all parts and metadata; stock load_ip_adapter reads it as it is
  ip-adapter  .bin or .safetensors without the ControlNet
  diffusers   a folder for stock diffusers, with a model card that has the code to load it
  pipeline    a folder for DiffusionPipeline.from_pretrained, base model included (--base)

also read: IP-Adapter-FaceID-Plus v1 and v2, and a trainer's raw output (accelerate's folder or its file)
"""


def inspect(path: str | Path, shortcut: bool | None = None) -> dict[str, Any]:
    """What a checkpoint is, holds and lacks, as JSON types. `lacks` is empty where it can be converted.

    Raises:
        CheckpointError: it is no checkpoint of a known layout.
    """
    checkpoint = read_unchecked(path)
    if shortcut is not None:
        checkpoint.metadata["shortcut"] = "true" if shortcut else "false"
    lacks = []
    dimensions = None
    try:
        dimensions = checkpoint.dimensions()
    except CheckpointError as error:
        lacks.append(str(error))
    if checkpoint.metadata.get("shortcut") not in ("true", "false"):
        lacks.append("shortcut: unknown; say --shortcut (v2) or --no-shortcut (v1) when converting")
    parts = {
        name: {
            "tensors": len(tensors),
            "parameters": sum(value.numel() for value in tensors.values()),
            "bytes": sum(value.nbytes for value in tensors.values()),
            "dtypes": dict(Counter(str(value.dtype).removeprefix("torch.") for value in tensors.values())),
        }
        for name, tensors in checkpoint.parts.items()
    }
    return {
        "path": str(path),
        "layout": checkpoint.metadata["layout"],
        "shortcut": {"true": True, "false": False}.get(checkpoint.metadata.get("shortcut", "")),
        "identity_dim": dimensions and dimensions.identity,
        "clip_dim": dimensions and dimensions.clip,
        "cross_attention_dim": dimensions and dimensions.token,
        "tokens": dimensions and 4,
        "rank": dimensions and dimensions.rank,
        "attentions": dimensions and len(dimensions.widths),
        "controlnet": checkpoint.controlnet is not None,
        "parts": parts,
        "non_finite": checkpoint.non_finite(),
        "lacks": lacks,
        "metadata": {
            key: value for key, value in sorted(checkpoint.metadata.items()) if key not in ("layout", "shortcut")
        },
        "sha256": sha256_of(Path(path).expanduser()),
    }


def convert(
    source: str | Path, target: str | Path, layout: str, *, shortcut: bool | None = None, **options: Any
) -> tuple[Checkpoint, list[str]]:
    """`read`, then `write` with its options: what was read, and what was lost or has to be known.

    Raises:
        CheckpointError: before anything is written.
    """
    checkpoint = read(source, shortcut)
    taken, made = Path(source).expanduser().resolve(), Path(target).expanduser().resolve()
    if taken == made:
        raise CheckpointError(f"{source} is both IN and OUT; write beside it, then move")
    if made in taken.parents:
        raise CheckpointError(f"{source} is inside {target}, which would be replaced; write beside it, then move")
    return checkpoint, write(checkpoint, target, layout, **options)


def sha256_of(path: Path) -> str:
    """Of a file, its sha256; of a folder, that of the lines `sha256  name` of its files, sorted by name."""
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    lines = "".join(f"{sha256_of(path / name)}  {name}\n" for name in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def _print_table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    facts = Table(show_header=False, box=None)
    for name, value in report.items():
        if name in ("parts", "lacks", "non_finite", "metadata", "sha256"):
            continue
        words = {"True": "yes", "False": "no", "None": "unknown"}
        facts.add_row(name.replace("_", " "), words.get(str(value)) or _plain(value))
    for name, value in report["metadata"].items():
        facts.add_row(_plain(name), _plain(value))
    console.print(facts)
    console.print(f" sha256 {report['sha256']}", soft_wrap=True)  # whole, to be copied
    table = Table("part", "tensors", "parameters", "bytes", "dtypes")
    for name, part in report["parts"].items():
        dtypes = ", ".join(f"{dtype} x {count}" for dtype, count in part["dtypes"].items())
        table.add_row(name, str(part["tensors"]), f"{part['parameters']:,}", f"{part['bytes']:,}", dtypes)
    console.print(table)
    for key, count in report["non_finite"].items():
        console.print(f"not finite: {count} numbers of {key}", style="red", markup=False)
    for lack in report["lacks"]:
        console.print(f"lacks: {lack}", style="red", markup=False)
    if not report["lacks"] and not report["non_finite"]:
        console.print("complete and consistent", style="green")


def _plain(value: Any) -> str:
    """What a file says about itself, as text: no markup, nothing that a terminal would obey."""
    from rich.markup import escape

    return escape("".join(letter if letter.isprintable() else "?" for letter in str(value)))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m model.checkpoints.convert",
        description="Face-MakeUp checkpoints: what is in a file, and from one layout to another. No code in a file runs.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    look = commands.add_parser(
        "inspect",
        help="layout, sizes, dtypes, hash, what it lacks",
        description="Exit 0: complete; 1: it lacks something; 2: no checkpoint.",
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
    asked = build_parser().parse_args(arguments)
    try:
        return _inspect(asked) if asked.command == "inspect" else _convert(asked)
    except CheckpointError as error:
        print(f"refused: {error}", file=sys.stderr)
    except OSError as error:  # a full disk, a base folder without one of its parts
        print(f"failed: {error}", file=sys.stderr)
    return 2


def _inspect(asked: argparse.Namespace) -> int:
    report = inspect(asked.file, asked.shortcut)
    if asked.json:
        print(json.dumps(report, indent=2))
    else:
        _print_table(report)
    return 1 if report["lacks"] or report["non_finite"] else 0


def _convert(asked: argparse.Namespace) -> int:
    source, notes = convert(
        asked.source,
        asked.target,
        asked.to,
        shortcut=asked.shortcut,
        base=asked.base,
        image_encoder=asked.image_encoder,
        vae=asked.vae,
        dtype=asked.dtype,
        fold_lora=asked.fold_lora,
        force=asked.force,
        allow_non_finite=asked.allow_non_finite,
    )
    digest = sha256_of(Path(asked.target).expanduser())
    print(f"{asked.target}: {asked.to}, from {source.metadata['layout']}, sha256 {digest}")
    for note in notes:
        print(f"  {note}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
