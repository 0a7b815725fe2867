"""How versions lie in the database, and how they are read and written."""
