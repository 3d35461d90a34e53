"""Hosts of the kernel that share no code with us."""
