"""The two databases of a data directory, and the lock that says whose they are."""
