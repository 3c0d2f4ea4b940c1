"""How fast shards become batches: ours beside a bare loop and beside Mosaic streaming."""
