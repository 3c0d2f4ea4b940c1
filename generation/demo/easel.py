"""A drawing in steps, for a page: progress while it goes on, a stop that stops it, files with provenance at the end."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generation.demo.faces import Sight
from generation.drawing import Artist
from generation.provenance import Saved
from model.conditioning.features import mix_conditions
from model.presets import Scales


@dataclass(frozen=True)
class Wishes:
    """What is asked for. `alpha`: share of the second face; `name_prompt`: whether the record has the prompt."""

    prompt: str
    negative_prompt: str
    scales: Scales
    seed: int
    steps: int
    count: int
    alpha: float = 0.5
    name_prompt: bool = False


@dataclass(frozen=True)
class Step:
    """`seconds_left`: what the steps that are left will take if they go on as before; None: not yet known."""

    done: int
    total: int
    seconds_left: float | None


class _Stopped(Exception):
    """Ends a drawing inside diffusers' callback: nothing is decoded for nobody."""


class Easel:
    """Draws for all users of a page, one drawing at a time. Files go to a folder of each drawing's own in `folder`."""

    def __init__(self, artist: Artist, folder: Path):
        self._artist, self._folder = artist, folder
        self._busy = threading.Lock()

    def draw(self, first: Sight, second: Sight | None, wishes: Wishes) -> Iterator[Step | list[Saved]]:
        """A `Step` before the first and after each step, at the end the files. Closing the iterator stops the drawing.

        Raises:
            ValueError: what the pipeline refuses.
            torch.OutOfMemoryError: too many pictures at once.
        """
        news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stop = threading.Event()
        # diffusers calls back and does not yield: the loop runs beside, this generator tells what it hears
        worker = threading.Thread(target=self._work, args=(first, second, wishes, news, stop), name="drawing")
        worker.start()
        try:
            while True:
                item = news.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
                if isinstance(item, list):
                    return
        finally:
            stop.set()
            worker.join()

    def _work(
        self,
        first: Sight,
        second: Sight | None,
        wishes: Wishes,
        news: queue.SimpleQueue[Any],
        stop: threading.Event,
    ) -> None:
        try:
            with self._busy:
                news.put(self._drawn(first, second, wishes, news, stop))
        except _Stopped:
            pass  # whoever stopped it does not listen any more
        except BaseException as error:  # noqa: BLE001 - raised again by `draw`, in the thread that asked
            news.put(error)

    def _drawn(
        self,
        first: Sight,
        second: Sight | None,
        wishes: Wishes,
        news: queue.SimpleQueue[Any],
        stop: threading.Event,
    ) -> list[Saved]:
        pipeline, scales = self._artist.pipeline, wishes.scales
        began = time.monotonic()

        def after_step(drawing: Any, index: int, timestep: Any, values: dict) -> dict:
            nonlocal began
            if stop.is_set():
                raise _Stopped
            # some schedulers take a step more than was asked for
            done, total, left = index + 1, drawing.num_timesteps, None
            if index == 0:
                began = time.monotonic()  # the first step also warms up: it says nothing about the others
            else:
                left = (time.monotonic() - began) / index * (total - done)
            news.put(Step(done, total, left))
            return values

        if stop.is_set():
            raise _Stopped
        news.put(Step(0, wishes.steps, None))
        face = pipeline.encode_faces(first.rgb, [first.face])
        if second is not None:
            face = mix_conditions(
                face, pipeline.encode_faces(second.rgb, [second.face]), wishes.alpha, renormalise=False
            )
        images = pipeline(
            wishes.prompt,
            face=face,
            negative_prompt=wishes.negative_prompt,
            ip_scale=scales.ip,
            controlnet_scale=scales.controlnet,
            guidance_scale=scales.guidance,
            shortcut_scale=scales.shortcut,
            num_inference_steps=wishes.steps,
            num_images_per_prompt=wishes.count,
            seed=wishes.seed,
            callback_on_step_end=after_step,
        ).images
        # a name that nobody guesses: whoever has the address of a file can fetch it
        folder = self._folder / secrets.token_urlsafe(16)
        folder.mkdir(mode=0o700)
        prompt = wishes.prompt if wishes.name_prompt else None
        return [
            self._artist.save(image, folder / f"face-makeup-seed-{seed}.png", seed=seed, scales=scales, prompt=prompt)
            for seed, image in enumerate(images, start=wishes.seed)
        ]
