"""The dataset card that stands beside the shards: what is in them, how it came about, what it may be used for."""

from __future__ import annotations

import yaml

from curation.cutting.cut import read_funnel
from curation.recipe.recipe import Recipe
from curation.run_directory.run import Run


def dataset_card(run: Run, recipe: Recipe, name: str, samples: int, content_hash: str) -> str:
    """Markdown with the front matter that dataset hubs read. Same content recipe, same card: it holds no time, host or
    path, and not the reasons of rejected images, which hang on the order in which filters were tried."""
    funnel = read_funnel(run, name)
    assert funnel
    manifest = run.manifest()
    front = {"license": "other", "task_categories": ["text-to-image"], "pretty_name": f"{recipe.name} ({name})"}
    weights = "\n".join(
        f"| {item['name']} | `{item['file']}` | `{item['sha256'][:16]}` | {item['licence']} |"
        for item in manifest["weights"]
    )
    stand_in = (
        "\n**Faces were found by a stand-in detector (CenterFace), since yolov5-face could not be had.**\n"
        if manifest.get("stand_in")
        else ""
    )
    return f"""---
{yaml.safe_dump(front, sort_keys=True).strip()}
---
# {recipe.name}, cut `{name}`

{samples:,} face image-text samples, curated from FaceCaption-15M{" and LAION-Face" if recipe.sources.laion_face else ""}
by resolution, colour, text, number of faces and style, out of {funnel["taken"]:,} images ({funnel["undecodable"]:,} of
them could not be decoded). Content recipe `{content_hash}`.
{stand_in}
**Use.** FaceCaption-15M is CC-BY-4.0 and asks for research use; the images are other people's, found on the web.
Captions were written by models. Do not redistribute the images.

Each sample: `ID.jpg` (as fetched; PNG and WebP transcoded once), `ID.json`, `ID.txt` (the {recipe.pack.caption}
caption){", `ID.identity.npy` (" + recipe.annotate.identity + ", unit length)" if recipe.annotate.identity != "none" else ""}.
`NNNNN.json` beside each tar holds its sha256 and where each member stands.

```python
import webdataset as wds
samples = wds.WebDataset("{{00000..NNNNN}}.tar", shardshuffle=False).decode("pil")
```

| model | file | sha256 | licence |
|---|---|---|---|
{weights}

```yaml
{yaml.safe_dump(recipe.thresholds.model_dump(mode="json"), sort_keys=False).strip()}
```
"""
