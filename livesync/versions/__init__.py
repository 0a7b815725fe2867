"""The history of documents: exact values, the deltas between them, and three-way merges."""
