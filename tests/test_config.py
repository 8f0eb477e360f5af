"""Every option in `conf` composes and can be instantiated, and the defaults are the papers'."""

from collections.abc import Callable
from itertools import chain, zip_longest
from pathlib import Path

import hydra
import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import tpt
from tests.conftest import ROOT, compose_config, noise_image
from tests.own_data import save_huggingface, write_features, write_shard
from tests.paper_tree import paper_tree
from tests.shift_tree import cifar, shift_tree
from tpt.data import image_folder
from tpt.data.catalog import DOMAINS, PAPER
from tpt.data.catalog.entries import CORRUPTIONS
from tpt.engine.tasks.coop import epochs_for
from tpt.engine.tasks.method_maker import MethodMaker

CONF = ROOT / "conf"
OPTIONS = sorted(f"{path.parent.name}={path.stem}" for path in CONF.glob("*/*.yaml") if not path.stem.startswith("_"))
NEEDS = {  # settings that an option requires
    "data=folder": ["data.root={tree}"],
    "data=pictures": ["data.root={tree}", "data.class_names=[cat,dog]"],
    "data=list": ["data.path={table}"],
    "data=huggingface": ["data.path={saved}"],
    "data=webdataset": ["data.shards={shard}"],
    "data=features": ["data.path={features}"],
    "data=catalog": ["data.root={paper}", "data.keys=[dtd,eurosat]"],
    **{f"data={name}": ["data.root={paper}"] for name in [*PAPER, "natural_shift", "cross_dataset"]},
    **{f"data={name}": ["data.root={shifts}"] for name in DOMAINS},
    **{f"data={name}": ["data.root={cifar}"] for name in ("cifar10", "cifar10_c", "cifar100", "cifar100_c")},
    "data=imagenet_c": ["data.root={shifts}", "data.corruption=[fog,snow]"],  # 1,000 files for each corruption
    "backbone=open_clip": ["backbone.name=ViT-B-32-quickgelu", "backbone.pretrained=openai"],
    "backbone=file": ["backbone.pretrained={weights}"],
    "method=rlcf": ["backbone@method.reward=emoji_mini"],  # the paper's reward model is downloaded
    "context=coop": ["context.path={weights}"],
    "context=cocoop": ["context.path={weights}"],
}
FETCHED = {"backbone=vit_b16", "backbone=rn50", "backbone=open_clip", "backbone=vit_l14"}  # weights are downloaded
ELSEWHERE = {"learner", "shots", "experiment", "row"}  # groups that other tests cover


# One row of options is composed at once: a data option, and an option of one or two other groups.  So each option is in
# one row.  Methods come first, because they need a context that can be built from the model alone.
METHODS = [option for option in OPTIONS if option.startswith("method=")]
OTHERS = [*dict.fromkeys(o.split("=")[0] for o in OPTIONS if o.split("=")[0] not in {*ELSEWHERE, "data", "method"})]


def rows_of_options() -> list[list[str]]:
    """Returns rows of options of different groups, which together have every option once."""
    groups = [[o for o in OPTIONS if o.startswith(f"{group}=")] for group in OTHERS]
    small = [list(filter(None, row)) for row in zip_longest(*groups)]
    data = [o for o in OPTIONS if o.startswith("data=")]
    rows = zip_longest(data, [*([method] for method in METHODS), *small], fillvalue=None)
    return [[*([option] if option else []), *(more or [])] for option, more in rows]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, noise_file: Callable[..., Path]) -> dict[str, Path]:
    """The files and folders that `NEEDS` names."""
    folder = tmp_path_factory.mktemp("given")
    for label, name in enumerate(("cat", "dog", "kite")):
        (folder / "tree" / name).mkdir(parents=True)
        noise_image(label).save(folder / "tree" / name / "0.png")
    table = folder / "tree" / "test.csv"
    table.write_text("path,label\ncat/0.png,cat\n")
    return {
        "tree": folder / "tree",
        "table": table,
        "weights": noise_file(),
        "paper": paper_tree(folder / "paper"),
        "shifts": shift_tree(folder / "shifts", severities=(5,)),
        "cifar": cifar_tree(folder / "cifar"),
        "saved": save_huggingface(folder / "saved"),
        "features": write_features(folder / "f.safetensors"),
        "shard": write_shard(folder / "0.tar", [("a", "cat"), ("b", "dog")]),
    }


def cifar_tree(root: Path) -> Path:
    root.mkdir()
    cifar(root, CORRUPTIONS)
    return root


def compose(*overrides: str, tmp_path: Path) -> DictConfig:
    return compose_config("test_time", *overrides, tmp_path=tmp_path)


def test_every_option_is_in_one_row() -> None:
    elsewhere = {option for option in OPTIONS if option.split("=")[0] in ELSEWHERE}
    assert sorted(chain(*rows_of_options())) == sorted({*OPTIONS} - elsewhere) and len(METHODS) > 15


@pytest.mark.parametrize("row", rows_of_options(), ids=" ".join)
def test_options_compose(row: list[str], tmp_path: Path, given: dict[str, Path], clip: tpt.CLIP) -> None:
    """Every option composes, its interpolations resolve, and its object can be made."""
    needs = [setting.format(**given) for option in row for setting in NEEDS.get(option, [])]
    cfg = compose(*row, *needs, tmp_path=tmp_path)
    OmegaConf.resolve(cfg)
    for option in row:
        assert chosen(option), option
        make(option, cfg, clip, given["tree"])


def chosen(option: str) -> bool:
    """Whether the last composition chose the option."""
    group, name = option.split("=")
    return str(HydraConfig.get().runtime.choices[group]) == name


def make(option: str, cfg: DictConfig, clip: tpt.CLIP, tree: Path) -> None:
    """Makes what an option configures."""
    group = option.split("=", maxsplit=1)[0]
    if option in FETCHED:
        assert hydra.utils.get_method(cfg.backbone._target_) is tpt.load_clip
    elif group == "data":
        module = instantiate(cfg.data.module)
        assert all(len(d) for d in module.datasets)
    elif group == "method":
        maker = MethodMaker(clip, instantiate(cfg.context), instantiate(cfg.method))
        assert isinstance(maker(image_folder(tree)), tpt.Method), option  # "paper" settings depend on the dataset
    elif group == "callbacks":
        assert len(instantiate(cfg.callbacks)) == len(cfg.callbacks)
    elif group == "logger":
        assert OmegaConf.is_config(cfg.logger) and all("_target_" in v for v in cfg.logger.values())
    elif option in ("context=coop", "context=cocoop"):
        assert callable(hydra.utils.get_method(cfg.context._target_))
    elif group not in ("search", "debug"):  # set values of other groups
        assert instantiate(cfg[group]) is not None, option


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    cfg = compose(tmp_path=tmp_path)
    assert (cfg.views.num_views, cfg.method.steps, cfg.method.selection_p, cfg.method.lr) == (64, 1, 0.1, 5e-3)
    assert cfg.optimizer._target_ == "torch.optim.AdamW" and cfg.optimizer.weight_decay == 0.01
    assert cfg.context.ctx_init == "a photo of a"
    assert cfg.trainer.inference_mode is False


def test_only_the_bundled_shots_set_their_own_epochs(tmp_path: Path) -> None:
    bundled = compose_config("train_coop", tmp_path=tmp_path)
    assert bundled.learner.epochs < epochs_for(bundled.shots.k)
    for shots in (["shots=folder", "shots.root=x"], ["shots=catalog", "shots.key=dtd"]):
        papers = compose_config("train_coop", *shots, tmp_path=tmp_path)
        assert papers.learner.epochs is None
        assert bundled.shots.module == papers.shots.module and {*bundled} == {*papers}
    assert compose_config("train_coop", "learner.epochs=3", tmp_path=tmp_path).learner.epochs == 3
