from .bundled import emoji_shift, emoji_shift_domains
from .catalog import catalog_datasets, read_entry, validation_entry
from .datamodule import EpisodeBatch, EpisodeDataModule
from .dataset import ImageDataset, Sample
from .features import feature_file
from .few_shot import Shots, draw_shots
from .folder import image_folder
from .huggingface import huggingface_dataset
from .listing import image_list
from .pictures import pictures
from .shards import tar_shards
from .shots import ShotsDataModule

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
    "feature_file",
    "huggingface_dataset",
    "image_folder",
    "image_list",
    "pictures",
    "read_entry",
    "tar_shards",
    "validation_entry",
]
