"""How a report looks: one HTML page that opens from disk, and figures inside it.

In: parts of a page, tables as cells, figures of matplotlib. Out: text. It knows nothing of what is reported.
"""
