"""Finds, reads and checks the weights of a CLIP."""
