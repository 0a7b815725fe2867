"""What turns one value into another, and how two changes of one value are merged. Pure."""
