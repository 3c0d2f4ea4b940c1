"""Errors that a person can mend: shown as one message, without a traceback, with exit code 2."""

from __future__ import annotations


class UserError(Exception):
    """Something that a person has to change before this can work; the message says what, where, and the remedy."""
