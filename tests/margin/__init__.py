"""The figures behind docs/security-argument.md, derived again at every test run."""
