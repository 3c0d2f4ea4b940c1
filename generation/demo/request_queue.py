"""The demo's queue: which requests of the page wait for which. gradio runs it; these are its settings.

A drawing waits until all drawings that were asked for before it are done, and the page shows its place. Photos wait for
each other in a queue of their own, so that a photo is looked at while a drawing goes on. What only changes the page
waits for nothing.
"""

from __future__ import annotations

from typing import Any

MAX_WAITING = 64  # requests; gradio refuses the next one

PRIVATE = {"api_visibility": "private"}  # of every event: this is a page, not an interface for programs
DRAWINGS: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "drawing", **PRIVATE}
PHOTOS: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "photos", "show_progress": "minimal", **PRIVATE}
NO_QUEUE: dict[str, Any] = {"queue": False, "show_progress": "hidden", **PRIVATE}
