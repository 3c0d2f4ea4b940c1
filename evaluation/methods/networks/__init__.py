"""Parts of methods that are networks or their files; they know nothing of rows and references."""
