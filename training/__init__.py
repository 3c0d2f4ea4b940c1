"""Shards in, checkpoints out: which sample is seen when, the loss, the loop, its checkpoints."""
