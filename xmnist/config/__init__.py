"""What the keys of a config may hold, and what follows from them."""
