"""Weights of a CLIP: found, read and checked."""
