"""What is measured: `fv bench NAME`."""
