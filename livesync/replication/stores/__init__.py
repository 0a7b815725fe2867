"""Where the items of a node lie, and what is written to them."""
