"""Evaluation on a cluster: a job of it, and OUT in a bucket."""
