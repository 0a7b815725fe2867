"""What two-way sync knows of items, changes and nodes: values, and pure functions of them."""
