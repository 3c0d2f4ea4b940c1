"""What a process knows of the Ray job around it, and what of its environment goes along with a job.

No Ray is imported: what runs without it asks here whether it is inside a job.
"""

from __future__ import annotations

import base64
import json
import os

# of this process's environment, what says where a store is. Paths are not sent: they mean something else elsewhere
FORWARDED = ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")
# Whoever may see the jobs of a cluster reads their variables, so these are sent only where the person insists
SECRETS = frozenset({"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "HF_TOKEN"})
JOB_CONFIG_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray for the entrypoint of a job
RECIPE_VARIABLE = "FACEMAKEUP_RECIPE_BASE64"  # in base64, since Ray would fill in what looks like ${NAME}


def forwarded_environment() -> dict[str, str]:
    """What of this process's environment a job is sent; with PASS_SECRETS=1 also the SECRETS that are set here."""
    names = {*FORWARDED, *(SECRETS if os.environ.get("PASS_SECRETS", "") not in ("", "0") else ())}
    return {name: os.environ[name] for name in sorted(names) if name in os.environ}


def inside_job() -> bool:
    """Whether this process is the entrypoint of a Ray job."""
    return JOB_CONFIG_VARIABLE in os.environ


def job_environment() -> dict[str, str]:
    """The variables that the Ray job around this process was submitted with; none outside a job."""
    config = json.loads(os.environ.get(JOB_CONFIG_VARIABLE) or "{}")
    return (config.get("runtime_env") or {}).get("env_vars") or {}


def submitted_recipe() -> str | None:
    """The text of the recipe that came with this job; None: none came, or this is no job."""
    encoded = os.environ.get(RECIPE_VARIABLE)
    return base64.b64decode(encoded).decode() if encoded else None
