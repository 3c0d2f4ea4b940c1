"""What every command does with an error: one message for what a person can mend, a traceback for what is our fault."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable

from common.errors import UserError
from common.failures.mendable import RAY_DATA_ADDS, remedy_for
from common.progress import console

INTERRUPTED = 130  # what a shell says of a command that ctrl-C ended


def exit_code_of(function: Callable[[], object]) -> int:
    """Run `function`. The exit code that it returns, if it is a number, else 0; 2 where it raises what a person can
    mend, which is shown as one message; 130 where a person (ctrl-C) or what started it
    (SIGTERM, SIGHUP) ends it."""
    show_names_that_are_no_text()
    try:
        code = function()
    except KeyboardInterrupt:
        return _stopped("interrupted; what is done stays, and the same command goes on from here", INTERRUPTED)
    except Exception as error:
        message = message_of(error)
        if message is None:
            raise
        return _stopped(message, 2)
    return code if isinstance(code, int) else 0


def _stopped(message: str, code: int) -> int:
    console.print("[bold red]stopped:[/] ", end="")
    console.print(message, markup=False)
    return code


def show_names_that_are_no_text() -> None:
    """From now on stdout shows the bytes of a file's name that is not UTF-8, as stderr does, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def message_of(error: BaseException) -> str | None:
    """What a person is told of an error that they can mend; None for a fault of ours.

    The innermost of its stated causes counts: Ray wraps what a worker raises, once and more. What was only being handled
    when it was raised does not: an error in our handling of a full disk is our fault.
    """
    seen: list[BaseException] = []
    waiting: list[object] = [error]
    while waiting:
        item = waiting.pop()
        if not isinstance(item, BaseException) or any(item is other for other in seen):
            continue
        seen.append(item)
        waiting += [item.__cause__, getattr(item, "cause", None)]
    # Ray's own wrapper is an instance of what it wraps, too; it is known by its `cause`
    seen = [item for item in seen if not hasattr(item, "as_instanceof_cause")]
    known = [item for item in seen if isinstance(item, UserError)]
    remedies = [str(known[-1])] if known else [remedy for item in seen if (remedy := remedy_for(item))]
    return remedies[-1].partition(f"\n{RAY_DATA_ADDS}")[0] if remedies else None


def subcommand_parser(parsers: argparse._SubParsersAction, name: str, text: str) -> argparse.ArgumentParser:
    """A sub-command whose --help shows `text` as it is written."""
    return parsers.add_parser(
        name, help=text.splitlines()[0], description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
