"""What every command does with an error: one message for what a person can mend, a traceback for what is our fault."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable

from common.errors import UserError
from common.progress import console


def exit_code_of(function: Callable[[], object]) -> int:
    """Run `function`. The exit code that it returns, if it is a number, else 0; 2 where it raises a UserError, which is
    shown as one message."""
    show_names_that_are_no_text()
    try:
        code = function()
    except Exception as error:
        known = _user_error_in(error)
        if known is None:
            raise
        console.print("[bold red]stopped:[/] ", end="")
        console.print(str(known), markup=False)
        return 2
    return code if isinstance(code, int) else 0


def show_names_that_are_no_text() -> None:
    """From now on stdout shows the bytes of a file's name that is not UTF-8, as stderr does, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _user_error_in(error: BaseException) -> UserError | None:
    """The innermost UserError of an error's causes: Ray wraps what a worker raises, once and more."""
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, BaseException) or any(item is other for other in seen):
            continue
        seen.append(item)
        waiting += [item.__cause__, item.__context__, getattr(item, "cause", None)]
    # Ray's own wrapper is an instance of what it wraps, too; it is known by its `cause`
    known = [item for item in seen if isinstance(item, UserError) and not hasattr(item, "as_instanceof_cause")]
    return known[-1] if known else None


def subcommand_parser(parsers: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:
    """A sub-command whose --help shows `text` as it is written."""
    return parsers.add_parser(
        name, help=text.splitlines()[0], description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
