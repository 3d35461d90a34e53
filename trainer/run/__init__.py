"""A run: from settings and pictures to a LoRA, by steps that can be stopped and gone on with anywhere."""
