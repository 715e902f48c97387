"""The cases, by topic: every file here is part of the table."""
