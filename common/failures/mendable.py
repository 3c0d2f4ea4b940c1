"""Which errors that no code of ours raised a person can mend, and what to do about each: a disk, a bucket, a Ray.

Anything that is not named here is a fault of this project and stays a traceback.
"""

from __future__ import annotations

import errno

RAY_DATA_ADDS = "Failed to apply UDF transform"  # to the text of what a worker raised, or in the place of a file's name
# what to do, by what the operating system says
DISK_REMEDIES = {
    errno.EACCES: "you have no permission there: take another folder, or have its owner give you access",
    errno.EPERM: "you have no permission there: take another folder, or have its owner give you access",
    errno.EROFS: "the disk is read-only: take a folder on another one",
    errno.ENOSPC: "the disk is full: make room, or take a folder on another disk; the same command goes on from here",
    errno.EDQUOT: "your quota is used up: make room; the same command goes on from here",
    errno.ENOTDIR: "a part of this path is a file, not a folder: correct the path",
    errno.EISDIR: "this is a folder, and a file was expected: correct the path",
    errno.ENAMETOOLONG: "the name is too long for this disk: take a shorter one",
    errno.EMFILE: "too many files are open: raise the limit with `ulimit -n 65536`",
    errno.ENFILE: "the machine has too many open files: end other programs",
    errno.ESTALE: "the network disk has lost this file: mount it again; the same command goes on from here",
    errno.EIO: "the disk or the network behind it fails: look at the machine's log; the same command goes on from here",
}
# of object stores, by the class's name: botocore is imported only where a bucket is used
BUCKET_REMEDIES = {
    "NoCredentialsError": "no credentials for the bucket: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
    "PartialCredentialsError": "half of the bucket's credentials are missing: set both AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY",
    "EndpointConnectionError": "no object store answers there: check AWS_ENDPOINT_URL and the network",
    "InvalidRegionError": "no such region: correct AWS_DEFAULT_REGION",
    "ProfileNotFound": "no such profile: correct AWS_PROFILE",
}
RAY_REMEDIES = {
    "ActorUnavailableError": "a worker's process, or the whole node of it, was lost: the same command goes on from here",
    "NodeDiedError": "a node of the Ray cluster was lost: the same command goes on from here",
    "RaySystemError": "Ray's own processes have died: the same command goes on from here; their logs are in "
    "/tmp/ray/session_latest/logs",
    "OutOfMemoryError": "a worker was ended because the machine's memory is full: take fewer workers, or a smaller batch",
    "LocalRayletDiedError": "Ray's process on this machine has died: the same command goes on from here; its log is in "
    "/tmp/ray/session_latest/logs",
}


def remedy_for(error: BaseException) -> str | None:
    """One sentence: what has happened, where, and what to do; None for an error that nobody but us can mend."""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    for known, module in ((BUCKET_REMEDIES, "botocore"), (RAY_REMEDIES, "ray")):
        for name in kinds:
            if name in known and type(error).__module__.split(".")[0] == module:
                return f"{known[name]} ({first_line(error)})"
    if isinstance(error, ModuleNotFoundError) and error.name and not _is_ours(error.name):
        return f"the package `{error.name}` is not installed: run `make setup`"
    if isinstance(error, OSError) and error.errno in DISK_REMEDIES:
        named = error.filename is not None and RAY_DATA_ADDS not in str(error.filename)
        place = f"{error.filename}: " if named else ""
        reason = error.strerror or first_line(error)
        return f"{place}{reason}: {DISK_REMEDIES[error.errno]}"
    if isinstance(error, PermissionError):  # of a bucket: s3fs says no more
        return f"{first_line(error)}: no permission there: check the credentials and the bucket's policy"
    return None


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in ("common", "curation", "evaluation", "generation", "jobs", "model", "training")


def first_line(error: BaseException) -> str:
    """Of an error's text; its class where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
