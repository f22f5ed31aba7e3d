"""The command line `fv`."""
