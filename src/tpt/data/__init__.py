"""Datasets and the loaders that turn them into batches of views."""

from tpt.data.datamodule import EpisodeBatch, EpisodeDataModule
from tpt.data.dataset import ImageDataset, Sample
from tpt.data.emoji_shift import emoji_shift, emoji_shift_domains
from tpt.data.folder import image_folder

__all__ = [
    "EpisodeBatch",
    "EpisodeDataModule",
    "ImageDataset",
    "Sample",
    "emoji_shift",
    "emoji_shift_domains",
    "image_folder",
]
