"""What the sidecar says of itself: the document, the same in words, the same for Prometheus. A shelf of modules."""
