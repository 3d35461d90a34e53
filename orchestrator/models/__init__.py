"""Models on the disk: found in our folders and in those of other programs, told by their headers."""
