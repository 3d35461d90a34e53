"""What this machine has, how busy it is, and what is wrong with it."""
