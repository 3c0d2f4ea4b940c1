"""Methods that draw in a process and an environment of their own: docs/evaluation.md, "A method of any environment"."""
