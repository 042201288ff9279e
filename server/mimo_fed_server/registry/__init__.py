"""The adapter registry: records in a database, releases in signed metadata, both served over HTTP."""
