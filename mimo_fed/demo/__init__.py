"""The whole loop on one machine: real processes, real text, one report.

In: a name, a number of rounds, a base model. Out: `runs/<name>/` with keys, logs, events, `report.json`
and `report.html`. It starts the applications as a person would, by their commands, and reads their event
files; it knows nothing of what is inside a message.
"""
