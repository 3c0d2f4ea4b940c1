"""One person's answers, in the table of labels that calibration reads: written after each of them, taken back in order."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Mapping, Sequence

from common.storage import Storage
from curation.calibration.label_table import ALONGSIDE, NAMES, SPLIT, LabelError, label_columns, read_labels

ORDER = (*NAMES, "package", "motif", "half")  # of the columns before those that hold labels
FREE = "note"  # a column with any words
DOUBT = "doubtful"


def question_columns(asked: Sequence[str] = ()) -> dict[str, Sequence[str] | None]:
    """The columns that the page asks for, with the words of each; None: a whole number. `asked`: only these of them.

    Raises:
        LabelError: a column that no filter has.
    """
    known = label_columns()
    if unknown := [column for column in asked if column not in known]:
        raise LabelError(f"--ask {unknown[0]}: is no column of labels. Known are {', '.join(known)}")
    return {column: words for column, words in known.items() if not asked or column in asked}


class Answers:
    """The answers of one table of labels, by photo; the file holds all of them at any moment.

    Rows of photos that are not at hand, and columns that are not asked for, stay as they are.
    """

    def __init__(self, path: str | os.PathLike[str], name: str):
        """`path`: of a .csv, which need not be there yet; `name`: the column of NAMES that says which photo a row is of.

        Raises:
            LabelError: another kind of file; a table that cannot be used as it is.
        """
        self.path, self.name = str(path), name
        folder, self._file = os.path.split(self.path)
        if os.path.splitext(self._file)[1].lower() != ".csv":
            raise LabelError(f"{path}: the page writes .csv: give it such a name with --labels (LABELS=...)")
        self._storage = Storage(folder or ".")
        self._rows: dict[str, dict[str, str]] = {}
        self._before: list[tuple[str, dict[str, str] | None]] = []
        self._written = self._on_disk()
        if (
            len((self._written or b"").splitlines()) > 1
        ):  # a table of which everything was taken back has its header alone
            for row in read_labels(self.path, name):
                row.pop("where")
                self._rows[row[name]] = row

    def of(self, photo: str) -> dict[str, str]:
        """The answers about a photo; empty where there are none."""
        return {column: value for column, value in self._rows.get(photo, {}).items() if value and column != self.name}

    def answered(self, columns: Collection[str]) -> set[str]:
        """The photos that have a word in one of the columns."""
        return {photo for photo, row in self._rows.items() if any(row.get(column) for column in columns)}

    def put(self, photo: str, answers: Mapping[str, str]) -> None:
        """Write these answers; the others about the photo stay.

        Raises:
            LabelError: a column or a word that is none; the file was changed by somebody else.
        """
        changed = self._rows.get(photo, {self.name: photo}) | {key: check(key, text) for key, text in answers.items()}
        self._before.append((photo, self._rows.get(photo)))
        self._set(photo, changed)
        try:
            self._write()
        except BaseException:
            self._set(*self._before.pop())
            raise

    def undo(self) -> str | None:
        """Take the last answer back; the photo that it was about, None where there is none since the page was opened.

        Raises:
            LabelError: the file was changed by somebody else.
        """
        if not self._before:
            return None
        photo, row = self._before[-1]
        now = self._rows.get(photo)
        self._set(photo, row)
        try:
            self._write()
        except BaseException:
            self._set(photo, now)
            raise
        self._before.pop()
        return photo

    def _set(self, photo: str, row: dict[str, str] | None) -> None:
        if row is None or not any(value for column, value in row.items() if column != self.name):
            self._rows.pop(photo, None)
        else:
            self._rows[photo] = row

    def _on_disk(self) -> bytes | None:
        return self._storage.read_bytes(self._file) if self._storage.exists(self._file) else None

    def _write(self) -> None:
        """The whole table, in the place of the old one, which must be the one that was written last."""
        if self._on_disk() != self._written:
            raise LabelError(
                f"{self.path}: was changed by another program since it was read. Nothing was written: keep that file, "
                "and start the page again (two people label into two tables)"
            )
        used = {column for row in self._rows.values() for column, value in row.items() if value}
        ordered = [*ORDER, *label_columns(), *SPLIT, *ALONGSIDE]
        columns = [column for column in dict.fromkeys(ordered) if column in used or column == self.name]
        if not self._rows:
            columns = [self.name, *label_columns()]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows[photo] for photo in sorted(self._rows))
        self._written = text.getvalue().encode()
        self._storage.write_bytes(self._file, self._written)


def check(column: str, text: str) -> str:
    """The answer as the table holds it; "" takes it back.

    Raises:
        LabelError: a column or a word that is none.
    """
    text = " ".join(text.split())
    if column == FREE or not text:
        return text
    known = label_columns() | {DOUBT: SPLIT[DOUBT]}
    if column not in known:
        raise LabelError(f"{column}: is no column of labels")
    words = known[column]
    if not (text.isascii() and text.isdigit()) if words is None else text not in words:
        raise LabelError(f"{column}: {text!r} is no answer. It is {', '.join(words) if words else 'a whole number'}")
    return text
