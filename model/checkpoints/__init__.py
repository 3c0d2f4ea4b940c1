"""Face-MakeUp checkpoints: read in every layout in use, checked, written in any that others can load.

    python -m model.checkpoints inspect FILE
    python -m model.checkpoints convert IN OUT --to LAYOUT

In programs: reading.read(path) -> state.Checkpoint, writing.write(checkpoint, path, layout), convert.convert(...),
inspection.inspect_checkpoint(path).
"""
