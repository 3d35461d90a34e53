"""Files of the user and of the studio: found safely, written durably, moved and thrown away."""
