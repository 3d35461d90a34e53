"""The HTTP half of the studio: one registry of operations, and what stands around it."""
