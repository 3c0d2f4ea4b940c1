"""The orientation in an EXIF block. EXIF alone turns an image: what XMP says of it is not read."""

from __future__ import annotations

ORIENTATION = 0x0112
NUMBERS = {1: 1, 3: 2, 4: 4}  # EXIF's BYTE, SHORT, LONG: bytes of one


def orientation_of(block: bytes) -> tuple[int, str]:
    """The orientation, 1 to 8, and a note: "" or why it could not be read, and is 1.

    Only this one tag is read: a library that reads all of them fails on whichever is broken.
    """
    block = block.removeprefix(b"Exif\0\0")  # belongs to JPEG, but other formats' writers keep it
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(block[:4])
    if order is None:
        return 1, "EXIF: no TIFF header"

    def number(place: int, size: int) -> int:
        return int.from_bytes(block[place : place + size], order)

    directory = number(4, 4)
    if len(block) < directory + 2:
        return 1, "EXIF: ends before its directory"
    for place in range(directory + 2, directory + 2 + 12 * number(directory, 2), 12):
        if len(block) < place + 12:
            return 1, "EXIF: ends in its directory"
        if number(place, 2) == ORIENTATION:
            size, count = NUMBERS.get(number(place + 2, 2)), number(place + 4, 4)
            value = number(place + 8, size) if size and count == 1 else 0
            return (value, "") if 1 <= value <= 8 else (1, "EXIF: the orientation is none of 1 to 8")
    return 1, ""
