"""Folders of images with their captions: what is known of them, and what was changed in them."""
