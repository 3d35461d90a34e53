"""Training of LoRAs, and everything that is done to files of weights."""
