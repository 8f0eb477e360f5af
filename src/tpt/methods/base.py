"""The base class of methods, and their result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, ClassVar, Literal, Unpack

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

from tpt.clip.model import CLIP
from tpt.clip.other_views import encode_all
from tpt.clip.prompts.text_bank import TextBank, TextSettings
from tpt.errors import UserError, checked
from tpt.methods.functional import entropy, select_confident

# Of the views, that a method trusts.
ViewShare = Annotated[float, Gt(0), Le(1), "use `method=zero_shot` to look at the image alone"]
IMAGE = "image"  # the name of the method's own encoder
IMAGE_NORM = f"{IMAGE}_norm"  # the length of view 0's feature before it was scaled to 1


@dataclass(frozen=True)
class Adaptation:
    """The results for B images; without the leading B if a method was given one image's (V, E) features.

    Args:
        logits: (B, K) prediction after adaptation, for view 0 or for all views together.  They are finite, and their
            softmax is the prediction: the recorded confidence is its largest value.  A method that predicts
            probabilities or votes gives `tpt.methods.functional.log_probabilities` of them.
        initial_logits: (B, K) the prediction for view 0 before adaptation: the zero-shot answer of the same text,
            cosines times the logit scale.
        selected: (B, S) indices of the views that were trusted, most confident first.
        entropy: (B,) marginal entropy of the selected views after adaptation, in nats; of the prediction if a
            method tunes nothing that views' predictions depend on.
        initial_entropy: (B,) marginal entropy of the selected views before.
        context: (B, n_ctx, D) or (B, K, n_ctx, D) the context after adaptation; None for methods without one.

    Raises:
        ValueError: a shape that does not fit the others, or an infinite number, with its name: a bug of the method.
            (NaN is left to the record of its image, which then says so.)
    """

    logits: Tensor
    initial_logits: Tensor
    selected: Tensor
    entropy: Tensor
    initial_entropy: Tensor
    context: Tensor | None = None

    def __post_init__(self) -> None:
        shape = self.logits.shape
        lead = shape[:-1]
        expected = {
            "logits": len(shape) in (1, 2),
            "initial_logits": self.initial_logits.shape == shape,
            "selected": self.selected.ndim == len(shape) and self.selected.shape[:-1] == lead,
            "entropy": self.entropy.shape == lead,
            "initial_entropy": self.initial_entropy.shape == lead,
            "context": self.context is None or self.context.shape[: len(lead)] == lead,
        }
        for name, good in expected.items():
            if not good:
                raise ValueError(
                    f"`Adaptation.{name}` has shape {tuple(getattr(self, name).shape)}, which does not fit `logits` of "
                    f"shape {tuple(shape)}: (B, K) for logits, (B, S) for selected, (B,) for entropies, (B, ...) for "
                    "the context."
                )
        for name in ("logits", "initial_logits", "entropy", "initial_entropy"):
            if getattr(self, name).isinf().any():
                raise ValueError(
                    f"`Adaptation.{name}` holds an infinite number; where it is the logarithm of probabilities or "
                    "votes, use tpt.methods.functional.log_probabilities."
                )

    def cpu(self) -> Adaptation:
        """On the CPU, without the contexts, which only grow with the batch and are of no use to a record."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "context"}
        return replace(self, context=None, **{name: value.cpu() for name, value in values.items()})

    def squeeze(self) -> Adaptation:
        """Without the leading dimension, of size 1."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v[0] for name, v in values.items() if v is not None})


@dataclass(frozen=True)
class ShownViews:
    """In what order a contact sheet shows the views of B images.

    Args:
        order: (B, V) indices, what the method trusts most first.
        values: (B, V) what they are ordered by, for each view in the views' own order.
        name: of these values, with their unit.
    """

    order: Tensor
    values: Tensor
    name: str = "entropy (nats)"


class Method(nn.Module, ABC):
    """Adapts to each image from its view features.

    An episodic method adapts to each image alone: nothing of one image reaches another.  The methods of
    `tpt.StreamMethod` learn from one image for the next.

    A subclass checks its settings when it is made, describes itself in class attributes, and defines `adapt`.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        text: where the text features come from, see `TextBank`: `ctx_init`, `context`, `templates`, ...

    Attributes:
        kind: "episodic" or "stream".
        tunes: whether it takes gradient steps.
        selects: whether it trusts some views more than others; False for a method that uses view 0 alone.
        paper: the settings of the method's own paper, by family of datasets ("imagenet", "natural_shift",
            "fine_grained") and by dataset, whose own come first; those under "" hold for all others, and are the
            constructor's defaults.
        bank: the text features.
        encoders: its arguments, and attributes, that are other image encoders.  They encode the same views, once: for
            `("teacher",)`, `adapt` gets `teacher_features_BVE`.
        needs: the extras that `adapt` takes besides the view features: those of `encoders`, and "image_norm"
            (`image_norm_B`), the lengths of view 0's features, if the context is made of them.
        notes: what results must say about the method beyond its settings.

    Raises:
        UserError: names or text settings that do not fit the backbone.
    """

    kind: ClassVar[Literal["episodic", "stream"]] = "episodic"
    tunes: ClassVar[bool] = False
    selects: ClassVar[bool] = True
    encoders: ClassVar[tuple[str, ...]] = ()
    paper: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __init_subclass__(cls) -> None:
        """A subclass checks its settings against the limits in the annotations of its constructor."""
        super().__init_subclass__()
        if "__init__" in vars(cls):
            cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]

    def __init__(self, clip: CLIP, class_names: Sequence[str], **text: Unpack[TextSettings]) -> None:
        super().__init__()
        self.clip = clip
        self.bank = TextBank(clip, class_names, **text)
        self.class_names = self.bank.class_names
        of_own = (IMAGE_NORM,) if self.bank.needs_norm else ()
        self.needs: tuple[str, ...] = (*of_own, *(f"{name}_features" for name in self.encoders))
        self.notes = self.bank.notes

    @abstractmethod
    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """Adapts to every image of a checked batch of float32 features; `needed` is what `needs` names, checked too."""

    def begin_dataset(self, images: int) -> None:
        """Called before the first image of each dataset, with the number of its images."""

    def check_views(self, num_views: int) -> None:
        """Raises a UserError if the method cannot work with `num_views` views; called before images are encoded."""

    def view_logits(self, features_BVE: Tensor, image_norm_B: Tensor | None = None, **needed: Tensor) -> Tensor:
        """(B, V, K) logits of all views before adaptation: cosines with the text features times the logit scale."""
        text: Tensor = self.bank(features_BVE[:, 0], image_norm_B)
        return self.clip.logit_scale * features_BVE @ text.mT

    def view_order(self, features_BVE: Tensor, **needed: Tensor) -> ShownViews:
        """In what order a contact sheet shows views: by the entropy of their predictions before adaptation."""
        values = entropy(self.view_logits(features_BVE, **needed))
        return ShownViews(values.argsort(dim=-1, stable=True), values)

    @classmethod
    def paper_settings(cls, family: str = "", dataset: str = "") -> dict[str, Any]:
        """The settings of the method's own paper for a dataset of a family, those of its base classes included."""
        found: dict[str, Any] = {}
        for kind in reversed(cls.__mro__):
            own = vars(kind).get("paper", {})
            found |= {**own.get("", {}), **own.get(family, {}), **own.get(dataset, {})}
        return found

    @classmethod
    def machine_settings(cls, clip: CLIP, device: torch.device) -> Mapping[str, int]:
        """Settings that depend on the machine unless given, and change last digits.

        A run keeps them, so that it gives the same records when it is continued elsewhere.
        """
        return {}

    def take_less_memory(self) -> str | None:
        """Halves the work that is done at once and returns its new size as text; None if it cannot be halved."""
        return None

    def encode(self, views: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What `forward` takes: the features of views, (V, 3, H, W) or (B, V, 3, H, W), and the extras."""
        others = {name: getattr(self, name).to(self.clip.device) for name in self.encoders}
        extras = encode_all({IMAGE: self.clip, **others}, views, self.clip)
        return extras.pop(f"{IMAGE}_features"), extras

    def forward(self, features: Tensor, image_norm: Tensor | None = None, **extras: Tensor) -> Adaptation:
        """Adapts to one image (V, E) or to each of many (B, V, E); features have unit length, view 0 is the image.

        Args:
            features: of the views.
            image_norm: () or (B,) lengths of view 0's features before they were scaled to 1.
            extras: what the method needs besides, by name, as `encode` gives them: `NAME_features`, (V, E2) or
                (B, V, E2), another encoder's features of the same views.  Those that `needs` does not name are not
                looked at.

        Raises:
            UserError: another shape, features that are not finite (the message names the rows), or a missing
                argument that the method needs.
        """
        if image_norm is not None:
            extras[IMAGE_NORM] = image_norm
        out = self.adapt(self._batch(features), **self._needed(features, extras))
        return out if features.ndim == 3 else out.squeeze()

    @torch.no_grad()
    def show(self, features: Tensor, **extras: Tensor) -> ShownViews:
        """In what order a contact sheet shows the views of some images; takes what `forward` takes, gives (B, V)."""
        return self.view_order(self._batch(features), **self._needed(features, extras))

    def _batch(self, features: Tensor) -> Tensor:
        if features.ndim not in (2, 3) or features.shape[-1] != self.embed_dim or features.shape[-2] < 1:
            raise UserError(
                f"Expected view features of shape (V, {self.embed_dim}) or (B, V, {self.embed_dim}), "
                f"got {tuple(features.shape)}; `clip.encode_views` makes them."
            )
        features_BVE = features if features.ndim == 3 else features[None]
        _refuse_not_finite(features_BVE)
        self.check_views(features_BVE.shape[1])
        return features_BVE.float()

    def _needed(self, features: Tensor, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
        images, views = 1 if features.ndim == 2 else len(features), features.shape[-2]
        needed: dict[str, Tensor] = {}
        for name in self.needs:
            letters = "B" if name.endswith("_norm") else "BVE"
            needed[f"{name}_{letters}"] = _check_extra(name, extras.get(name), (images, views)[: len(letters)])
        return needed

    @property
    def embed_dim(self) -> int:
        """Length E of a feature."""
        return self.clip.embed_dim


def _refuse_not_finite(features_BVE: Tensor) -> None:
    bad = (~features_BVE.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    if bad:
        raise UserError(
            f"Expected finite view features, got NaN or infinity for image {', '.join(map(str, bad))} of the "
            "batch; look at the image, or use precision=fp32."
        )


def _check_extra(name: str, value: Tensor | None, lead: tuple[int, ...]) -> Tensor:
    """An extra with the leading dimensions `lead`: B, or B and V."""
    if value is None:
        other = ", or use meta_input=unit" if name == IMAGE_NORM else ""
        raise UserError(
            f"Expected `{name}`, which the method needs, got none; `features, extras = method.encode(views)` makes it"
            f"{other}."
        )
    ndim = 1 if len(lead) == 1 else 3
    batch = value[None] if value.ndim == ndim - 1 else value
    if batch.ndim != ndim or batch.shape[: len(lead)] != lead:
        of = " and ".join(f"{size} {what}" for size, what in zip(lead, ("images", "views"), strict=False))
        raise UserError(f"Expected `{name}` of {of}, got shape {tuple(value.shape)}.")
    if ndim > 1:
        _refuse_not_finite(batch)
    return batch.float()


def select_views(
    features_BVE: Tensor, logits_BVK: Tensor, selection_p: float, min_selected: int = 0
) -> tuple[Tensor, Tensor]:
    """The most confident views: their indices (B, S) and features (B, S, E)."""
    selected = select_confident(logits_BVK, selection_p, min_selected)
    return selected, gather_views(features_BVE, selected)


def gather_views(values_BVX: Tensor, selected_BS: Tensor) -> Tensor:
    """(B, S, X) rows of some views: of features, of logits."""
    return torch.gather(values_BVX, 1, selected_BS[..., None].expand(-1, -1, values_BVX.shape[-1]))
