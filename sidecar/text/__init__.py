"""Patterns of paths, regular expressions with a limit of time, and templates. A shelf of modules."""
