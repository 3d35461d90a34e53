"""Training of LoRAs and other small networks; empty until its own issue brings it."""
