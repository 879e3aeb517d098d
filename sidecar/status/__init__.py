"""Says how the sidecar stands: the document, the same in words, the same for Prometheus. A shelf of modules."""
