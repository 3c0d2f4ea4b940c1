"""PuLID on SDXL-Lightning, by its authors' own code in an environment of its own.

Its eva_clip, facexlib and attention processors go with torch 2.0.1 and diffusers 0.25, which this project cannot have. Nothing of it
was run here: pulid.txt is the environment, pulid_program.py what is started in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from common.hashing import sha256_of_file
from evaluation.methods.process import pulid_program
from evaluation.methods.process.method import ProcessMethod, ProgramSettings
from evaluation.methods.sources import Found, MethodSources, Needed, Unavailable

PINS = Path(__file__).with_name("pulid.txt")
COMMIT = "30ff5912f09cfea2a762ce0fc1c5c9bfee8746c4"  # of the authors' repository: whose pipeline.py was read
PROGRAM = Path(pulid_program.__file__)
NEGATIVE = (
    "flaws in the eyes, flaws in the face, flaws, lowres, non-HDRi, low quality, worst quality,artifacts noise, text, watermark, "
    "glitch, deformed, mutated, ugly, disfigured, hands, low resolution, partially rendered objects,  deformed or partially "
    "rendered eyes, deformed, deformed eyeballs, cross-eyed,blurry"
)


class PuLidSettings(ProgramSettings):
    """Of the authors' demo, fidelity mode."""

    width: int = Field(768, ge=64)
    steps: int = Field(4, ge=1)
    guidance: float = Field(1.2, ge=1)
    id_scale: float = 0.8
    mode: Literal["fidelity", "extremely style"] = "fidelity"
    negative_prompt: str = NEGATIVE


class PuLid(ProcessMethod):
    """`environment`: a folder with bin/python; `repository`: the authors', with what it downloaded in models/."""

    name = "pulid"
    title = "PuLID"
    needs = (
        Needed(
            "environment", "its packages' own", file="pulid-environment",
            fetch=f"`uv venv -p 3.10 pulid-environment && uv pip install -p pulid-environment -r {PINS.name}` "
            "(beside evaluation/methods/process/pulid.py) into the folder --weights",
        ),
        Needed(
            "repository", "Apache-2.0", file="PuLID",
            fetch=f"`git clone https://github.com/ToTheBeginning/PuLID && git -C PuLID checkout {COMMIT[:8]}` into the folder --weights",
        ),
    )  # fmt: skip
    Settings = PuLidSettings
    settings: PuLidSettings

    def __init__(self, sources: MethodSources):
        super().__init__(sources)
        self.environment, self.repository = self.found.pop("environment").path, self.found.pop("repository").path
        checkpoint = self.repository / "models" / "pulid_v1.bin"
        if not (self.environment / "bin" / "python").exists():
            raise Unavailable(f"{self.environment} has no bin/python: it is no environment")
        if not checkpoint.is_file():
            raise Unavailable(
                f"not here: {checkpoint} (guozinan/PuLID, Apache-2.0) and what it is drawn with: "
                f"`{self.environment}/bin/python {PROGRAM.name} {self.repository} --fetch`, with a GPU, downloads them once: SDXL base "
                "and SDXL-Lightning (CreativeML Open RAIL++-M), EVA02-CLIP, facexlib's models, and antelopev2 (non-commercial research)"
            )
        self.found |= {"checkpoint": Found(checkpoint), "program": Found(PROGRAM)}

    @classmethod
    def facts(cls, settings: PuLidSettings, sources: MethodSources) -> dict[str, Any]:
        return super().facts(settings, sources) | {
            "base_model": "stabilityai/stable-diffusion-xl-base-1.0 with ByteDance/SDXL-Lightning, 4 steps",
            "scheduler": "DPM++, trailing",
        }

    def describe(self) -> dict[str, Any]:
        return super().describe() | {"pins": sha256_of_file(PINS), "commit": COMMIT}

    def command(self) -> list[str]:
        return [str((self.environment / "bin" / "python").absolute()), str(PROGRAM), str(self.repository.absolute())]

    def folder(self) -> Path:
        return self.repository
