"""The log: the track, the inbox that feeds it, and what lies in ZODB."""
