"""Training, as far as the studio has to do with it: what is trained on, where things go, what came of it."""
