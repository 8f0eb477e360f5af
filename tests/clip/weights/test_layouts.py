"""Weights from other programs: prefixed names, common entries, transformers' layout, missing information."""

import importlib.util
import json
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tpt
import tpt.errors
from tests.noise_models import CONFIG
from tests.noise_models import weights as noise
from tpt.clip.weights.layouts import plain_names
from tpt.clip.weights.named import known_width
from tpt.errors import WeightsFileError

GOLDEN = Path(__file__).parents[2] / "golden" / "transformers"


def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transformers_golden", GOLDEN / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = _maker()


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return dict(noise.state_dict("vit", 1))


@pytest.fixture(scope="module")
def wanted(weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> str:
    save_file(weights, tmp_path_factory.mktemp("w") / "w.safetensors")
    file = next(tmp_path_factory.getbasetemp().glob("w0/w.safetensors"))
    return tpt.load_clip(pretrained=file, quick_gelu=True).fingerprint()


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "model._orig_mod.module.", "clip_model.", "a.b."]
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_prefix_of_all_names_is_removed(
    weights: dict[str, Tensor], wanted: str, prefix: str, suffix: str, tmp_path: Path
) -> None:
    file = tmp_path / f"w{suffix}"
    wrapped = {prefix + key: value for key, value in weights.items()}
    save_file(wrapped, file) if suffix == ".safetensors" else torch.save(wrapped, file)
    assert tpt.load_clip(pretrained=file, quick_gelu=True).fingerprint() == wanted


def test_a_wrapper_around_one_part_is_removed(weights: dict[str, Tensor], wanted: str, tmp_path: Path) -> None:
    """Names as after `torch.compile` of only the image encoder."""
    wrapped = {key.replace("visual.", "visual._orig_mod."): value for key, value in weights.items()}
    save_file(wrapped, tmp_path / "w.safetensors")
    assert tpt.load_clip(pretrained=tmp_path / "w.safetensors", quick_gelu=True).fingerprint() == wanted
    with pytest.raises(WeightsFileError, match="with and without a wrapper"):
        plain_names({"a.w": torch.ones(1), "a._orig_mod.w": torch.ones(1), "b": torch.ones(1)}, tmp_path)


class Configuration:
    """An object next to the weights, like Lightning's hyperparameters; loading must ignore it."""

    def __init__(self) -> None:
        self.lr = 0.1


@pytest.mark.parametrize("beside", [{}, {"epoch": 3}, {"hyper_parameters": Configuration(), "epoch": 3}])
@pytest.mark.parametrize("entries", [["state_dict"], ["model"], ["model_state_dict"], ["model", "state_dict"]])
def test_common_checkpoint_entries_are_found(
    weights: dict[str, Tensor], wanted: str, entries: list[str], beside: dict[str, Any], tmp_path: Path
) -> None:
    content: dict[str, Any] = {f"module.{key}": value for key, value in weights.items()}
    for entry in reversed(entries):
        content = {entry: content}
    torch.save({**content, **beside}, tmp_path / "w.ckpt")
    assert tpt.load_clip(pretrained=tmp_path / "w.ckpt", quick_gelu=True).fingerprint() == wanted


@pytest.mark.parametrize("second", ["state_dict", "model_ema"])
def test_a_file_with_two_state_dicts_is_refused(weights: dict[str, Tensor], second: str, tmp_path: Path) -> None:
    other = {key: value + 1 for key, value in weights.items()}
    torch.save({"model": weights, second: other, "optimizer": {"state": {}}}, tmp_path / "w.pt")
    with pytest.raises(WeightsFileError, match=rf"several state dicts, .*`{second}`.*\. Save the one you mean alone"):
        tpt.load_clip(pretrained=tmp_path / "w.pt", quick_gelu=True)


def test_unknown_tensor_names_are_reported(weights: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(
        {**{f"model.{k}": v for k, v in weights.items()}, "head.weight": torch.ones(1)}, tmp_path / "w.safetensors"
    )
    with pytest.raises(WeightsFileError, match="KeyError: .* Save the CLIP's state dict alone"):
        tpt.load_clip(pretrained=tmp_path / "w.safetensors", quick_gelu=True)


def written(folder: Path, weights: dict[str, Tensor], case: str = "openai") -> Path:
    """Writes weights in transformers' layout, with a config.json."""
    save_file(maker.layout(weights), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(maker.config(*maker.CASES[case])))
    return folder / "model.safetensors"


@pytest.mark.parametrize("case", maker.CASES)
def test_a_transformers_file_gives_transformers_features(
    case: str, weights: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The two cases differ only in heads and activation; golden.json has the features from transformers."""
    clip = tpt.load_clip(pretrained=written(tmp_path, weights, case))
    golden = json.loads((GOLDEN / "golden.json").read_text())[case]
    image, text = clip.encode_views(noise.views("vit", 1, 2)), clip.encode_text(maker.SENTENCES)
    torch.testing.assert_close(image, torch.tensor(golden["image"]), atol=1e-5, rtol=0)
    torch.testing.assert_close(text, torch.tensor(golden["text"]), atol=1e-5, rtol=0)
    assert not caplog.records  # no warning, since the activation is known


def test_incomplete_or_extended_transformers_files_are_refused(
    weights: dict[str, Tensor], wanted: str, tmp_path: Path
) -> None:
    file = written(tmp_path, weights)
    assert tpt.load_clip(pretrained=file).fingerprint() == wanted, "bit for bit the weights of OpenAI's layout"
    for content, sentence in (
        (None, "Put the configuration of the weights there, or pass the open_clip `name`"),
        ("[1]", "Cannot read the configuration of a CLIP in"),
        ('{"text_config": {"hidden_act": "gelu"}}', "expected one activation"),
        ('{"text_config": {"layer_norm_eps": 1e-6}}', "layer_norm_eps 1e-05, got"),
    ):
        config = tmp_path / "config.json"
        config.unlink() if content is None else config.write_text(content)
        with pytest.raises(WeightsFileError, match=sentence):
            tpt.load_clip(pretrained=file)
    for change, sentence in (
        (
            {"text_model.encoder.layers.0.lora.weight": torch.ones(1)},
            "'text_model.encoder.layers.0.lora.weight' in addition to",
        ),
        ({"classifier.weight": torch.ones(1)}, "'classifier.weight' in addition to"),
    ):
        save_file(maker.layout(weights) | change, file)
        with pytest.raises(WeightsFileError, match=sentence):
            tpt.load_clip("ViT-B-32", pretrained=file)
    cut = maker.layout(weights)
    del cut["text_model.encoder.layers.0.self_attn.k_proj.bias"]
    save_file(cut, file)
    with pytest.raises(WeightsFileError, match="not query, key and value"):
        tpt.load_clip("ViT-B-32", pretrained=file)


def test_unknown_head_widths_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large open_clip models have the same tensor names but other head widths, so 64 is not assumed."""
    known = open_clip.get_model_config("ViT-H-14")
    shrunk = {**known["vision_cfg"], "layers": 2, "width": 64, "head_width": 16, "patch_size": 16}
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: {**known, "vision_cfg": shrunk})
    save_file(noise.state_dict("vit", 1), tmp_path / "w.safetensors")
    with pytest.raises(WeightsFileError, match=r"heads of 16, not of 64 as OpenAI's\)\. .* pass the open_clip `name`"):
        tpt.load_clip(pretrained=tmp_path / "w.safetensors", quick_gelu=True)


def test_a_foreign_vocabulary_is_refused(weights: dict[str, Tensor], tmp_path: Path) -> None:
    weights = {**weights, "token_embedding.weight": weights["token_embedding.weight"][:32000].clone()}
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(tpt.errors.UserError, match="knows 32000 words, not the 49408 of CLIP's vocabulary"):
        tpt.load_clip(pretrained=tmp_path / "w.safetensors", quick_gelu=True)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> str:
    """Adds a small model to open_clip's configurations; returns its name."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", CONFIG)
    return "tiny"


def test_no_false_message_about_random_weights(
    tiny: str, weights: dict[str, Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        open_clip.create_model(tiny, load_weights=False)
        assert "Model initialized randomly" in caplog.text, "the line that is looked for"
        caplog.clear()
        torch.save(weights, tmp_path / "w.pt")
        tpt.load_clip(tiny, pretrained=tmp_path / "w.pt")
    assert "randomly" not in caplog.text


def save_folder(folder: Path, weights: dict[str, Tensor] | None, **config: Any) -> None:
    """Saves a model as open_clip pushes it to the hub: configuration and weights."""
    folder.mkdir(parents=True)
    content = {"model_cfg": {**CONFIG, **config}, "preprocess_cfg": {"mean": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    if weights is not None:
        save_file(weights, folder / "open_clip_model.safetensors")


def test_a_folder_needs_no_tag(
    tiny: str, weights: dict[str, Tensor], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_folder(tmp_path / "model", weights, quick_gelu=True)
    for name in (f"local-dir:{tmp_path}/model", "local-dir:~/model"):
        clip = tpt.load_clip(name)
        assert clip.name == name and clip.mean == (0.5, 0.5, 0.5) and clip.fingerprint() == wanted
        assert known_width(name) == 64
    file = tpt.load_clip(tiny, pretrained="~/model/open_clip_model.safetensors", quick_gelu=True)
    assert file.fingerprint() == wanted and file.name == "tiny/open_clip_model.safetensors"


def test_a_model_of_the_hub_needs_no_tag(
    weights: dict[str, Tensor], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is already in the hub's cache, so no request is sent."""
    repository = tmp_path / "models--org--name"
    save_folder(repository / "snapshots" / "abc", weights, quick_gelu=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr("tpt.clip.weights.hub.get_session", lambda: pytest.fail("asked the network"))
    clip = tpt.load_clip("hf-hub:org/name", cache_dir=str(tmp_path))
    assert clip.name == "hf-hub:org/name" and clip.fingerprint() == wanted


def test_a_tag_on_the_disk_needs_no_network(
    weights: dict[str, Tensor], wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32-quickgelu", {**CONFIG, "quick_gelu": True})
    monkeypatch.setattr("tpt.clip.weights.hub.get_session", lambda: pytest.fail("asked the network"))
    repository = tmp_path / "models--timm--vit_base_patch32_clip_224.openai"
    save_folder(repository / "snapshots" / "abc", weights)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    clip = tpt.load_clip("ViT-B-32-quickgelu", "openai", cache_dir=str(tmp_path))
    assert clip.name == "ViT-B-32-quickgelu/openai" and clip.fingerprint() == wanted


@pytest.mark.parametrize(
    ("name", "width"), [("ViT-B-16-quickgelu", 512), ("RN50x4", 640), ("hf-hub:a/b", None), ("x", None), (None, None)]
)
def test_the_width_is_known_without_weights(name: str | None, width: int | None) -> None:
    assert known_width(name) == width


@pytest.mark.parametrize(
    ("name", "pretrained", "message"),
    [
        ("local-dir:{tmp}/none", None, r"Cannot read `model_cfg`.*none/open_clip_config.json .*pass pretrained=FILE"),
        ("local-dir:{tmp}", None, "Cannot read `model_cfg`, as open_clip writes it, in"),
        ("local-dir:{tmp}/foreign", None, "tokenizer 'bert-base' .*Put its files in the model's folder"),
        ("local-dir:{tmp}/empty", None, "Cannot read the weights of .*empty' with open_clip"),
        (
            "local-dir:{tmp}",
            "openai",
            "Expected no `pretrained` with 'local-dir:.*', which carries its weights, got 'openai'",
        ),
        ("hf-hub:org/name/more", None, "Cannot read the weights org/name/more/open_clip_config.json"),
        (None, "{tmp}/empty", "the path of a weights file, got .*/empty, which is a folder"),
    ],
)
def test_wrong_folders_and_hub_names_give_a_one_line_error(
    name: str | None, pretrained: str | None, message: str, tmp_path: Path
) -> None:
    (tmp_path / "open_clip_config.json").write_text("[]")
    save_folder(tmp_path / "foreign", None, text_cfg={"hf_tokenizer_name": "bert-base"})
    save_folder(tmp_path / "empty", None)
    given = [None if part is None else part.format(tmp=tmp_path) for part in (name, pretrained)]
    with pytest.raises(tpt.errors.UserError, match=message) as caught:
        tpt.load_clip(*given)
    assert "\n" not in str(caught.value)
