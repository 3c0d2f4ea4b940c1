"""How far a run is at a moment: each step, and all that remain."""

from __future__ import annotations

from dataclasses import dataclass

DONE, RUNNING, WAITING = "done", "running", "waiting"
MEASURED, FORECAST_RATE, DEFAULT = "measured", "forecast", "default"


@dataclass(frozen=True)
class StepProgress:
    """`total`, `seconds_left`: None where nobody knows; `at_most`: they are upper bounds; `basis`: whose speed it is,
    measured in this run, the forecast's, or a default; `seconds`: that the step has taken."""

    step: str
    state: str
    done: int = 0
    total: int | None = None
    unit: str = "images"
    per_second: float | None = None
    seconds: float = 0.0
    seconds_left: float | None = None
    at_most: bool = False
    basis: str | None = None


@dataclass(frozen=True)
class RunProgress:
    """All steps of a command, and which of them is at work."""

    steps: tuple[StepProgress, ...]
    now: int

    @property
    def current(self) -> StepProgress:
        return self.steps[self.now]

    @property
    def left(self) -> tuple[StepProgress, ...]:
        """The steps that are not done."""
        return tuple(step for step in self.steps if step.state != DONE)

    @property
    def seconds_left(self) -> float | None:
        """Of all steps that are not done; None: `unknown` says why."""
        return None if self.unknown else sum(step.seconds_left or 0.0 for step in self.left)

    @property
    def at_most(self) -> bool:
        """Whether `seconds_left` is an upper bound."""
        return any(step.at_most for step in self.left)

    @property
    def unknown(self) -> str | None:
        """Until when nobody can say how long all of it takes; None: it is known."""
        lacking = next((step for step in self.left if step.seconds_left is None), None)
        if lacking is None:
            return None
        return f"until {lacking.step} has begun" if lacking.state == WAITING else f"while {lacking.step} is measured"
