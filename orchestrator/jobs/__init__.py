"""Jobs: what is to be done, in which order, on which device, and what has become of it."""
