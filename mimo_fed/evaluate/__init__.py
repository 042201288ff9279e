"""Does it help? Many users, several arms, one report: `mimo-fed evaluate`.

In: devices with their texts, and which arms to run. Out: a folder with `users.csv` (one row per user, arm and
seed) and `results.json`; and, made from these two files alone, figures, a page and a section of
`docs/evaluation.md`.

What runs: `sets` gives users their roles, `arms` and `plan` say what is done, `training` does it,
`measuring` measures it, and `tune` chooses the rates; `jobs` is a unit of work that is kept, `workers` do
them, `costs` says how long it takes, and `run` leads.

What is reported, in this order: `records` says what is written down and `files` how; `bootstrap`, `metrics`
and `verdict` compute; `findings` puts it together; `tables`, `method` and `plots` say it once, `html` and
`markdown` twice.
"""
