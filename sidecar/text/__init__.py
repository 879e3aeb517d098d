"""Encodings, patterns, templates, conditions, times and globs: what is known of text. A shelf of modules."""
