"""References and pictures in, a table out: sets, metrics in two protocols, intervals, ranks."""
