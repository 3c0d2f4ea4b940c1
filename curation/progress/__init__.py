"""How far a run is while it goes: a line in a log, a table in a terminal, RUN/progress.json for others."""
