"""Files that are known by their sha256: models, and what comes out of pinned Python packages."""
