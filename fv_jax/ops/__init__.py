"""Retention as pure functions of arrays: no Flax, no config."""
