"""Datasets and the loaders that turn them into batches of views."""

from tpt.data.catalog import catalog_datasets, read_entry
from tpt.data.datamodule import EpisodeBatch, EpisodeDataModule
from tpt.data.dataset import ImageDataset, Sample
from tpt.data.emoji_shift import emoji_shift, emoji_shift_domains
from tpt.data.few_shot import Shots, draw_shots, half_of_classes
from tpt.data.folder import image_folder
from tpt.data.huggingface import huggingface_dataset
from tpt.data.listing import image_list
from tpt.data.pictures import pictures
from tpt.data.shards import tar_shards
from tpt.data.shots import ShotsDataModule

__all__ = [
    "EpisodeBatch",
    "EpisodeDataModule",
    "ImageDataset",
    "Sample",
    "Shots",
    "ShotsDataModule",
    "catalog_datasets",
    "draw_shots",
    "emoji_shift",
    "emoji_shift_domains",
    "half_of_classes",
    "huggingface_dataset",
    "image_folder",
    "image_list",
    "pictures",
    "read_entry",
    "tar_shards",
]
