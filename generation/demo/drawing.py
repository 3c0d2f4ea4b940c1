"""Draws for the demo page: reports progress while it goes on, can be stopped, ends with files that carry a record."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generation.demo.faces import AnalysedPhoto
from generation.demo.limits import DrawRequest
from generation.loading import LoadedModel
from generation.provenance import SavedPicture
from model.conditioning.features import mix_conditions


@dataclass(frozen=True)
class DrawProgress:
    """`seconds_left`: for the steps that are left, at the speed so far; None: not yet known."""

    done: int
    total: int
    seconds_left: float | None


class _DrawingStopped(Exception):
    """Ends a drawing from inside diffusers' callback, so that nothing more is computed."""


class DrawingRunner:
    """Draws for all users of a page, one drawing at a time. Each drawing's files go to a new folder in `folder`."""

    def __init__(self, model: LoadedModel, folder: Path):
        self._model, self._folder = model, folder
        self._lock = threading.Lock()

    def draw(
        self, first: AnalysedPhoto, second: AnalysedPhoto | None, request: DrawRequest
    ) -> Iterator[DrawProgress | list[SavedPicture]]:
        """The progress before the first step and after each, then the files. Closing the iterator stops the drawing.

        Raises:
            ValueError: what the pipeline refuses.
            torch.OutOfMemoryError: too many pictures at once.
        """
        events: queue.SimpleQueue[DrawProgress | list[SavedPicture] | BaseException] = queue.SimpleQueue()
        stop = threading.Event()

        def run() -> None:
            try:
                with self._lock:
                    events.put(self._draw(first, second, request, events.put, stop))
            except _DrawingStopped:
                pass  # who stopped it reads no more events
            except BaseException as error:  # noqa: BLE001 - raised again below, in the thread of the request
                events.put(error)

        # diffusers calls back and does not yield: it runs in a thread, and this generator yields what comes from there
        worker = threading.Thread(target=run, name="drawing")
        worker.start()
        try:
            while True:
                event = events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, list):
                    return
        finally:
            stop.set()
            worker.join()

    def _draw(
        self,
        first: AnalysedPhoto,
        second: AnalysedPhoto | None,
        request: DrawRequest,
        report: Callable[[DrawProgress], None],
        stop: threading.Event,
    ) -> list[SavedPicture]:
        pipeline, scales = self._model.pipeline, request.scales
        started = time.monotonic()

        def after_step(drawing: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            nonlocal started
            if stop.is_set():
                raise _DrawingStopped
            # some schedulers take a step more than was asked for
            done, total, left = index + 1, drawing.num_timesteps, None
            if index == 0:
                started = time.monotonic()  # the first step also warms up: it says nothing about the others
            else:
                left = (time.monotonic() - started) / index * (total - done)
            report(DrawProgress(done, total, left))
            return tensors

        if stop.is_set():
            raise _DrawingStopped
        report(DrawProgress(0, request.steps, None))
        face = pipeline.encode_faces(first.rgb, [first.face])
        if second is not None:
            face = mix_conditions(
                face, pipeline.encode_faces(second.rgb, [second.face]), request.alpha, renormalise=False
            )
        images = pipeline(
            request.prompt,
            face=face,
            negative_prompt=request.negative_prompt,
            ip_scale=scales.ip,
            controlnet_scale=scales.controlnet,
            guidance_scale=scales.guidance,
            shortcut_scale=scales.shortcut,
            num_inference_steps=request.steps,
            num_images_per_prompt=request.count,
            seed=request.seed,
            callback_on_step_end=after_step,
        ).images
        # a name that nobody can guess: whoever has the address of a file can fetch it
        folder = self._folder / secrets.token_urlsafe(16)
        folder.mkdir(mode=0o700)
        prompt = request.prompt if request.record_prompt else None
        return [
            self._model.save(image, folder / f"face-makeup-seed-{seed}.png", seed=seed, scales=scales, prompt=prompt)
            for seed, image in enumerate(images, start=request.seed)
        ]
