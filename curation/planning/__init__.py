"""What to expect of a run before it is paid for: a pilot of a minute with the real steps, and what follows from it."""
