"""A page on which a person labels photos: with keys, undo and zoom, taken up where it was left."""
