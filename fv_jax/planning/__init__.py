"""What a training costs before it runs: FLOPs, bytes, hours, a TPU's schedule."""
