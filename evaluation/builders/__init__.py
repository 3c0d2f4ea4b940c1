"""Test sets: photos from somewhere, as a folder of references with a manifest."""
