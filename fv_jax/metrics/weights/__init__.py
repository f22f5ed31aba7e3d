"""Weights of the metrics' networks: files, checksums, which ones were published."""
