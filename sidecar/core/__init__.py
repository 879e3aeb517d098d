"""The nouns and the values that every part shares, and nothing that does anything. A shelf of modules."""
