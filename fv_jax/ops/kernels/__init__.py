"""Retention as kernels: what `ops/retention.py` says, written for a device."""
