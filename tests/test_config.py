"""Every option in `conf` composes and can be instantiated, and the defaults are the papers'."""

from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

import tpt
from tests.conftest import ROOT, compose_config
from tests.own_data import save_huggingface, write_features, write_shard
from tests.paper_tree import paper_tree
from tests.shift_tree import shift_tree
from tpt.data import image_folder
from tpt.data.catalog import CORRUPTED, DOMAINS, PAPER
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
    **{f"data={name}": ["data.root={shifts}"] for name in [*CORRUPTED, *DOMAINS, "cifar10", "cifar100"]},
    "backbone=open_clip": ["backbone.name=ViT-B-32-quickgelu", "backbone.pretrained=openai"],
    "backbone=file": ["backbone.pretrained={weights}"],
    "method=rlcf": ["backbone@method.reward=emoji_mini"],  # the paper's reward model is downloaded
    "context=coop": ["context.path={weights}"],
    "context=cocoop": ["context.path={weights}"],
}
FETCHED = {"backbone=vit_b16", "backbone=rn50", "backbone=open_clip", "backbone=vit_l14"}  # weights are downloaded
ELSEWHERE = {"learner", "shots", "method", "experiment", "row"}  # groups that other tests cover


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paper_tree(tmp_path_factory.mktemp("paper"))


@pytest.fixture(scope="module")
def shifts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shift_tree(tmp_path_factory.mktemp("shifts"), corruptions=CORRUPTIONS, severities=(5,))


def compose(*overrides: str, tmp_path: Path) -> DictConfig:
    return compose_config("test_time", *overrides, tmp_path=tmp_path)


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.split("=")[0] not in ELSEWHERE])
def test_option_composes(
    option: str, tmp_path: Path, image_tree: Path, paper: Path, shifts: Path, noise_file: Any
) -> None:
    table = image_tree / "test.csv"
    table.write_text("path,label\ncat/0.png,cat\n")
    fill = {"table": table, "tree": image_tree, "weights": noise_file(), "paper": paper, "shifts": shifts}
    if option == "data=huggingface":
        fill["saved"] = save_huggingface(tmp_path / "saved")
    if option == "data=features":
        fill["features"] = write_features(tmp_path / "f.safetensors")
    if option == "data=webdataset":
        fill["shard"] = write_shard(tmp_path / "0.tar", [("a", "cat"), ("b", "dog")])
    cfg = compose(option, *(o.format(**fill) for o in NEEDS.get(option, [])), tmp_path=tmp_path)
    OmegaConf.resolve(cfg)  # every interpolation resolves
    group = option.split("=", maxsplit=1)[0]
    if option in FETCHED:
        assert hydra.utils.get_method(cfg.backbone._target_) is tpt.load_clip
    elif group == "data":
        module = instantiate(cfg.data.module)
        assert all(len(d) for d in module.datasets)
    elif group == "callbacks":
        assert len(instantiate(cfg.callbacks)) == len(cfg.callbacks)
    elif group == "logger":
        assert OmegaConf.is_config(cfg.logger) and all("_target_" in v for v in cfg.logger.values())
    elif option in ("context=coop", "context=cocoop"):
        assert callable(hydra.utils.get_method(cfg.context._target_))
    elif group not in ("search", "debug"):  # set values of other groups
        assert instantiate(cfg[group]) is not None


def test_method_options_build_methods(clip: tpt.CLIP, tmp_path: Path, image_tree: Path) -> None:
    methods = [option for option in OPTIONS if option.startswith("method=")]
    assert len(methods) > 15
    for option in methods:
        cfg = compose(option, *NEEDS.get(option, []), tmp_path=tmp_path)
        OmegaConf.resolve(cfg)
        maker = MethodMaker(clip, instantiate(cfg.context), instantiate(cfg.method))
        assert isinstance(maker(image_folder(image_tree)), tpt.Method)  # "paper" settings depend on the dataset


def test_defaults_are_the_papers(tmp_path: Path) -> None:
    cfg = compose(tmp_path=tmp_path)
    assert (cfg.views.num_views, cfg.method.steps, cfg.method.selection_p, cfg.method.lr) == (64, 1, 0.1, 5e-3)
    assert cfg.optimizer._target_ == "torch.optim.AdamW" and cfg.optimizer.weight_decay == 0.01
    assert cfg.context.ctx_init == "a photo of a"
    assert cfg.trainer.inference_mode is False


@pytest.mark.parametrize(("shots", "needs"), [("folder", "shots.root=x"), ("catalog", "shots.key=dtd")])
def test_only_the_bundled_shots_set_their_own_epochs(shots: str, needs: str, tmp_path: Path) -> None:
    papers = compose_config("train_coop", f"shots={shots}", needs, tmp_path=tmp_path)
    bundled = compose_config("train_coop", tmp_path=tmp_path)
    assert papers.learner.epochs is None and bundled.learner.epochs < epochs_for(bundled.shots.k)
    assert bundled.shots.module == papers.shots.module and {*bundled} == {*papers}
    assert compose_config("train_coop", "learner.epochs=3", tmp_path=tmp_path).learner.epochs == 3
