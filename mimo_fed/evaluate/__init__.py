"""Does it help? Many users, several arms, one report: `mimo-fed evaluate`.

In: devices with their texts, and which arms to run. Out: a folder with `users.csv` (one row per user, arm and
seed) and `results.json`; and, made from these two files alone, figures, a page and a section of
`docs/evaluation.md`.

Read in this order: `records` says what is written down and `files` how; `bootstrap`, `metrics` and `verdict`
compute; `findings` puts it together; `tables` and `plots` say it once, `html` and `markdown` twice.
"""
