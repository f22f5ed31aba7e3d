"""The network: parameters and the three ways to run them."""
