"""The real operators, in which one image each ends the worker. A module that workers and children of them can import."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext

from curation.annotation.annotate import ENCODER, annotate_unit
from curation.run_directory.units import Unit
from curation.scoring import careful
from curation.scoring.operator import ScoringOperator


class Sabotaged(ScoringOperator):
    """The real one, in whose decoder and text filter one image each ends the process: the first two of each round's first unit."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        usual = self.watch

        @contextmanager
        def watch(stage, ids):
            with usual(stage, ids):
                if self.victims.get(stage) in ids:
                    os.abort()
                yield

        self.watch, self.victims = watch, {}

    def _score_unit(self, row):
        ids = Unit.of_row(row).ids
        self.victims = {careful.DECODER: ids[0], "text": ids[1]} if row["name"].endswith("-00000") else {}
        return super()._score_unit(row)


def annotate_until_the_encoder_dies(run, recipe, faces, fingerprint, kept, watch=None, blame=None):
    """The real one, whose encoder ends the process at the first image that each round's first unit keeps."""
    usual = watch or (lambda stage, ids: nullcontext())

    @contextmanager
    def watch(stage, ids):
        with usual(stage, ids):
            if stage == ENCODER and kept.unit.name.endswith("-00000") and ids == kept.ids[:1]:
                os.abort()
            yield

    return annotate_unit(run, recipe, faces, fingerprint, kept, watch, blame)
