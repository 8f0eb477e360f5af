"""Loading weights: names and tags, every file format, the bundled model, and refused input."""

import pickle
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

import tpt
from tests import noise_models
from tests.conftest import noise_image
from tests.noise_models import CONFIG
from tpt.clip.weights.archive import read_weights
from tpt.clip.weights.hub import FetchError
from tpt.clip.weights.named import preprocessing_of
from tpt.clip.weights.pretrained import wrap
from tpt.errors import UserError, WeightsFileError


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Makes every connection fail, as without a network."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return dict(noise_models.weights.state_dict("vit", 1))


def same(clip: tpt.CLIP, other: tpt.CLIP) -> bool:
    return all(torch.equal(a, b) for a, b in zip(clip.state_dict().values(), other.state_dict().values(), strict=True))


@pytest.mark.parametrize("arch", ["vit", "rn"])
def test_architecture_is_read_from_the_weights(arch: str, noise_file: Callable[..., Path]) -> None:
    clip = tpt.load_clip(pretrained=noise_file(arch, 1), quick_gelu=True)
    assert clip.image_size == {"vit": 32, "rn": 64}[arch]
    assert clip.width == 64 and clip.text.context_length == 77
    features = clip.encode_views(torch.zeros(2, 3, clip.image_size, clip.image_size))
    assert features.shape == (2, 32)


def test_float32_is_kept_exactly(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    key = "positional_embedding"
    weights[key] = weights[key] + 1e-6  # not representable in half precision
    save_file(weights, tmp_path / "w.safetensors")
    clip = tpt.load_clip(pretrained=tmp_path / "w.safetensors", quick_gelu=True)
    assert torch.equal(clip.text.positional_embedding, weights[key])
    assert clip.logit_scale == pytest.approx(float(torch.tensor(3.0).exp()))


class _Archive(torch.nn.Module):
    """Nested like OpenAI's archives: a submodule per part of a dotted name, and numbers next to the weights."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for key, value in weights.items():
            *path, leaf = key.split(".")
            node: Any = self
            for part in path:
                if not hasattr(node, part):
                    node.add_module(part, torch.nn.Module())
                node = getattr(node, part)
            node.register_buffer(leaf, value.clone())
        self.register_buffer("input_resolution", torch.tensor(32))
        self.register_buffer("context_length", torch.tensor(77))
        self.register_buffer("vocab_size", torch.tensor(49408))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_every_file_format_gives_the_same_model(
    weights: dict[str, torch.Tensor], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    half = {k: v.half() if v.is_floating_point() else v for k, v in weights.items()}
    save_file(weights, tmp_path / "a.safetensors")
    torch.save(half, tmp_path / "b.pt")
    torch.save({"state_dict": {f"module.{k}": v for k, v in weights.items()}, "epoch": 3}, tmp_path / "c.pt")
    torch.jit.save(torch.jit.trace(_Archive(half), torch.zeros(1)), tmp_path / "d.pt")
    first = tpt.load_clip(pretrained=tmp_path / "a.safetensors", quick_gelu=True)
    for name in ("b.pt", "c.pt"):
        assert same(first, tpt.load_clip(pretrained=tmp_path / name, quick_gelu=True)), name
    assert same(first, tpt.load_clip(pretrained=tmp_path / "d.pt"))
    assert not caplog.records  # archives are OpenAI's, so the activation is known
    tpt.load_clip(pretrained=tmp_path / "a.safetensors")
    assert "does not say which activation" in caplog.text


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    witness = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (witness,))

    with (tmp_path / "evil.pt").open("wb") as file:
        pickle.dump({"state_dict": Evil()}, file)
    torch.save({"state_dict": Evil()}, tmp_path / "evil2.pt")
    for name in ("evil.pt", "evil2.pt"):
        with pytest.raises(WeightsFileError, match="Cannot read "):
            read_weights(tmp_path / name)
    assert not witness.exists()


def test_damaged_and_foreign_files_are_refused(weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not weights")
    save_file(weights, tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:1000])
    for name, said in {"text.pt": "text.pt as weights", "cut.safetensors": "Cannot read .*cut.safetensors"}.items():
        with pytest.raises(WeightsFileError, match=said):
            tpt.load_clip(pretrained=tmp_path / name)
    save_file({"something.else": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsFileError, match="as weights of a CLIP in the key names of OpenAI or transformers"):
        tpt.load_clip(pretrained=tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="absent.pt, which is neither"):
        tpt.load_clip(pretrained=tmp_path / "absent.pt")


def test_open_clip_checkpoints_load_by_model_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", CONFIG)
    made = open_clip.create_model("tiny", load_weights=False)
    torch.save({"state_dict": made.state_dict()}, tmp_path / "epoch_1.pt")
    clip = tpt.load_clip("tiny", pretrained=tmp_path / "epoch_1.pt")
    assert same(clip, wrap(made, "x"))
    with pytest.raises(WeightsFileError, match="as weights of this architecture .*Missing key"):
        tpt.load_clip("ViT-S-32-alt", pretrained=tmp_path / "epoch_1.pt")


OFFLINE = "(unreachable|offline mode is enabled.*)"  # the latter if HF_HUB_OFFLINE is set


@pytest.mark.parametrize(
    ("name", "tag", "where"),
    [
        ("RN50-quickgelu", "openai", "timm/resnet50_clip.openai/"),
        ("hf-hub:org/name", None, "org/name/open_clip_config"),
    ],
)
def test_an_offline_machine_is_reported_at_once(
    name: str, tag: str | None, where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One failed request gives one error, and the client libraries log nothing."""
    with pytest.raises(FetchError, match=rf"Cannot read the weights {where}.*{OFFLINE}\). .*pass pretrained=/path"):
        tpt.load_clip(name, tag, cache_dir=str(tmp_path))
    assert not caplog.records


def test_an_offline_machine_is_reported_for_a_tag_with_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    known = {"url": "https://example.org/w.pt", "quick_gelu": True}
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: known)
    with pytest.raises(FetchError, match=rf"Cannot read the weights https://example.org/w.pt \(.*{OFFLINE}"):
        tpt.load_clip("RN50-quickgelu", "openai", cache_dir=str(tmp_path))
    assert not caplog.records and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "tag", "message"),
    [
        ("ViT-B16", "openai", "did you mean ViT-B-16"),
        ("ViT-B-16", "opanai", "Expected `pretrained` to be a tag of 'ViT-B-16'.*'openai'"),
        ("ViT-B-16-quickgelu", None, "to be a tag of 'ViT-B-16-quickgelu'"),
        ("ViT-B-32-quickgelu", "laion2b_s34b_b79k", "to be a tag of"),
        ("roberta-ViT-B-32", "laion2b_s12b_b32k", "Cannot read the tokenizer 'roberta-base' of 'roberta-ViT-B-32'"),
        ("ViT-B-16-SigLIP", "webli", "the tokenizer 'timm/ViT-B-16-SigLIP' .* in the hub's cache"),
    ],
)
def test_wrong_names_and_tags_give_a_one_line_error(name: str | None, tag: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        tpt.load_clip(name, tag)
    assert "\n" not in str(caught.value)


def test_another_vocabulary_needs_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(FetchError, match=r"tokenizer of 'ViT-B-16-SigLIP' needs the package `transformers`"):
        tpt.load_clip("ViT-B-16-SigLIP", "webli")


def test_a_file_gets_the_preprocessing_that_all_tags_share(caplog: pytest.LogCaptureFixture) -> None:
    assert preprocessing_of("PE-Core-B-16") == {
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    assert preprocessing_of("ViT-S-32-alt") == {} and not caplog.records  # no tags
    assert preprocessing_of("ViT-L-14") == {} and "ViT-L-14 differ in how images are prepared" in caplog.text


def test_quick_gelu_is_never_silently_wrong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """For OpenAI's tag, a configuration with GELU is corrected, with a warning."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-B-32", CONFIG)
    made = open_clip.create_model("ViT-B-32", force_quick_gelu=True, load_weights=False)
    torch.save(made.state_dict(), tmp_path / "w.pt")
    monkeypatch.setattr("tpt.clip.weights.named.fetch_tag", lambda *a: tmp_path / "w.pt")
    clip = tpt.load_clip("ViT-B-32", "openai")
    assert "trained with QuickGELU" in caplog.text
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(clip.encode_image(images), made.eval().encode_image(images, normalize=True))


@pytest.mark.parametrize("device", ["cuda:77", "mps:7", "xpu:7", "meta", "nonsense", "cuda:-3", ""])
def test_a_device_that_this_machine_does_not_have_is_refused(device: str, clip: tpt.CLIP) -> None:
    message = f"Expected a device of this machine, got device='{device}'"
    with pytest.raises(UserError, match=message):
        tpt.load_clip("emoji-mini", device=device)
    with pytest.raises(UserError, match=message):  # a CLIP of the user's own is moved
        tpt.predict(noise_image(0), ["cat", "dog"], backbone=clip, method="zero_shot", device=device)


def test_a_wrong_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected `precision` to be fp32 or bf16 or fp16, got 'fp8'"):
        tpt.load_clip("emoji-mini", precision="fp8")
