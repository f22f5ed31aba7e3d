"""`shapes`, the toy world: its scenes, and what measures videos of them."""
