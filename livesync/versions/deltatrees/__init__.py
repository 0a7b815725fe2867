"""Deltas of documents as trees in time, which are read and written one by one."""
