"""Golden transcripts: what host and kernel say to each other, line by line. README.md has the format."""
