"""What the benches of the paper's claims share."""
