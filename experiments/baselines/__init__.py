"""Other ways to make videos, which benches compare with."""
