"""The base class of all methods, and the result that they return."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal, Self, dataclass_transform, get_type_hints

import torch
from annotated_types import Gt, Le
from torch import Tensor, nn

from tpt.clip.model import CLIP, LoadedCLIP
from tpt.clip.other_views import encode_all
from tpt.clip.prompts.learner import check_class_names
from tpt.clip.prompts.text_bank import TextBank, TextSettings
from tpt.errors import Natural, UserError, checked
from tpt.methods.functional import entropy, num_selected, select_confident

# The share of the views that a method trusts.
ViewShare = Annotated[float, Gt(0), Le(1), "use `method=zero_shot` to classify the image without views"]
IMAGE = "image"  # the name of the method's own encoder
MOST_OFF = 0.01  # by which a unit vector's length may differ from 1, for features that were stored in half precision
IMAGE_NORM = f"{IMAGE}_norm"  # the length of view 0's feature before it was scaled to 1


@dataclass(frozen=True)
class Adaptation:
    """The results for B images; without the leading B if the method was given the (V, E) features of one image.

    Args:
        logits: (B, K) prediction after adaptation, for view 0 or for all views together.  They must be finite.  Their
            softmax is the prediction, and its largest value is the recorded confidence.  A method that predicts
            probabilities or votes passes them through `tpt.methods.functional.log_probabilities`.
        initial_logits: (B, K) prediction for view 0 before adaptation: the zero-shot answer with the same text,
            cosines times the logit scale.
        selected: (B, S) indices of the selected views, most confident first.
        entropy: (B,) marginal entropy of the selected views after adaptation, in nats.  If adaptation does not change
            the predictions of single views, the entropy of the final prediction.
        initial_entropy: (B,) marginal entropy of the selected views before adaptation, in nats.
        context: (B, n_ctx, D) or (B, K, n_ctx, D) the context after adaptation; None for methods without one.

    Raises:
        ValueError: a tensor has a wrong shape or holds an infinite number, which is a bug of the method.  NaN is
            allowed here: the image's record reports it.
    """

    logits: Tensor
    initial_logits: Tensor
    selected: Tensor
    entropy: Tensor
    initial_entropy: Tensor
    context: Tensor | None = None

    def __post_init__(self) -> None:
        shape, lead = self.logits.shape, self.logits.shape[:-1]
        expected = {
            "logits": len(shape) in (1, 2),
            "initial_logits": self.initial_logits.shape == shape,
            "selected": self.selected.ndim == len(shape) and self.selected.shape[:-1] == lead,
            "entropy": self.entropy.shape == lead,
            "initial_entropy": self.initial_entropy.shape == lead,
            "context": self.context is None or self.context.shape[: len(lead)] == lead,
        }
        if wrong := [f"{name} {tuple(getattr(self, name).shape)}" for name, good in expected.items() if not good]:
            raise ValueError(f"The shapes of `Adaptation` do not fit `logits` {tuple(shape)}: {', '.join(wrong)}.")
        for name in ("logits", "initial_logits", "entropy", "initial_entropy"):
            if getattr(self, name).isinf().any():
                raise ValueError(f"`Adaptation.{name}` holds an infinite number; use `log_probabilities` for votes.")

    def cpu(self) -> Self:
        """The same results on the CPU, without the contexts: records do not need them, and they are large."""
        return type(self)(**{name: value.cpu() for name, value in vars(self).items() if name != "context"})

    def squeeze(self) -> Self:
        """The same results without the leading dimension, which must have size 1."""
        return type(self)(**{name: value[0] for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class ShownViews:
    """The order in which a contact sheet shows the views of B images.

    Args:
        order: (B, V) indices of the views, the most trusted first.
        values: (B, V) the value that each view is sorted by, in the original order of the views.
        name: name and unit of these values.
    """

    order: Tensor
    values: Tensor
    name: str = "entropy (nats)"


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
class Declared(nn.Module):
    """Makes each subclass a dataclass: its annotated attributes are arguments of its constructor, which checks them.

    A class that defines its own constructor, or inherits one that is written out, keeps it.
    """

    def __init_subclass__(cls) -> None:
        """Writes the constructor, and makes it check its arguments against the limits in their annotations."""
        super().__init_subclass__()
        owner = next(kind for kind in cls.__mro__ if "__init__" in vars(kind))
        if owner is nn.Module or "__dataclass_fields__" in vars(owner):
            dataclass(cls, eq=False, repr=False, kw_only=True)
            hints = get_type_hints(cls, include_extras=True)  # each attribute's from the module that declares it
            cls.__init__.__annotations__ |= {name: hints[name] for name in inspect.signature(cls).parameters}
        if "__init__" in vars(cls):
            cls.__init__ = checked(cls.__init__)  # type: ignore[method-assign]

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """A module that is ready for the attributes which the constructor sets."""
        made = super().__new__(cls)
        nn.Module.__init__(made)
        return made


class Method(Declared, TextSettings, ABC):
    """Predicts the class of each image from the features of its views.

    An episodic method adapts to each image independently.  A stream method (`tpt.StreamMethod`) carries what it learned
    over to later images.

    A subclass defines `adapt`.  Its annotated attributes are settings: keyword arguments of the constructor, checked
    against their limits, in addition to those of the base class.  Its docstring explains them.  Class attributes that
    are annotated with `ClassVar` describe the method.

    Args:
        clip: the frozen backbone.
        class_names: K names.

    The other arguments, from `ctx_init` to `max_tokens`, say where the text features come from, as for `TextBank`.

    Attributes:
        kind: "episodic" or "stream".
        tunes: whether the method takes gradient steps.
        selects: whether the method trusts some views more than others; False if it uses view 0 only.
        paper: the settings of the method's own paper.  Keys are datasets, families of datasets ("imagenet",
            "natural_shift", "fine_grained") and "" for all others.  A dataset takes precedence over its family.  The
            settings under "" are the defaults of the constructor.
        bank: the text features.
        encoders: names of the arguments (and attributes) that are further image encoders.  They encode the same views:
            with `("teacher",)`, `adapt` receives `teacher_features_BVE`.
        needs: names of the extra inputs of `adapt`: one for each of `encoders`, and "image_norm" (`image_norm_B`), the
            length of view 0's feature, if the context is computed from that feature.
        notes: what the results must state about the method in addition to its settings.
        made_from: names of parts -> the settings that they are made from, and which cannot be changed later.

    Raises:
        UserError: the class names or text settings do not fit the backbone.
    """

    kind: ClassVar[Literal["episodic", "stream"]] = "episodic"
    tunes: ClassVar[bool] = False
    selects: ClassVar[bool] = True
    encoders: ClassVar[tuple[str, ...]] = ()
    paper: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    made_from: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "bank": ("clip", "class_names", *(one.name for one in fields(TextSettings)))
    }
    clip: LoadedCLIP = field(kw_only=False)
    class_names: Sequence[str] = field(kw_only=False)

    def __setattr__(self, name: str, value: Any) -> None:
        """Sets an attribute; raises a UserError if it is a setting whose part is already made."""
        if any(name in names and hasattr(self, part) for part, names in self.made_from.items()):
            kind = type(self).__name__
            raise UserError(
                f"Expected `{name}` as an argument of {kind}, got it later, without effect; make a new one."
            )
        super().__setattr__(name, value)

    def __post_init__(self) -> None:
        self.class_names = check_class_names(self.class_names)
        text = {f.name: getattr(self, f.name) for f in fields(TextSettings)}
        self.bank = TextBank(self.clip, self.class_names, **text)
        of_own = (IMAGE_NORM,) if self.bank.needs_norm else ()
        self.needs: tuple[str, ...] = (*of_own, *(f"{name}_features" for name in self.encoders))
        self.notes = self.bank.notes

    @abstractmethod
    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """Adapts to each image of a batch of float32 features; `needed` has the inputs in `needs`; all are checked."""

    def begin_dataset(self, images: int) -> None:
        """Called before the first image of each dataset, with the number of images in it."""

    def check_views(self, num_views: int) -> None:
        """Raises a UserError if the method cannot work with `num_views` views; called before any image is encoded."""

    def view_logits(self, features_BVE: Tensor, image_norm_B: Tensor | None = None, **needed: Tensor) -> Tensor:
        """(B, V, K) logits of all views before adaptation: cosines with the text features times the logit scale."""
        text: Tensor = self.bank(features_BVE[:, 0], image_norm_B)
        return self.clip.logit_scale * features_BVE @ text.mT

    def view_order(self, features_BVE: Tensor, **needed: Tensor) -> ShownViews:
        """The order of views in a contact sheet: by the entropy of their predictions before adaptation."""
        values = entropy(self.view_logits(features_BVE, **needed))
        return ShownViews(values.argsort(dim=-1, stable=True), values)

    @classmethod
    def paper_settings(cls, family: str = "", dataset: str = "") -> dict[str, Any]:
        """The settings of the method's paper for a dataset of a family, including those of its base classes."""
        found: dict[str, Any] = {}
        for kind in reversed(cls.__mro__):
            own = vars(kind).get("paper", {})
            found |= {**own.get("", {}), **own.get(family, {}), **own.get(dataset, {})}
        return found

    @classmethod
    def machine_settings(cls, clip: CLIP, device: torch.device) -> Mapping[str, int]:
        """Defaults that depend on the machine and affect rounding.

        A run stores them, so that it gives the same records when it is resumed on another machine.
        """
        return {}

    def take_less_memory(self) -> str | None:
        """Halves the size of a step of work and returns the new size as text; None if it cannot be halved."""
        return None

    def encode(self, views: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Encodes views, (V, 3, H, W) or (B, V, 3, H, W), to the features and extras that `forward` takes."""
        others = {name: getattr(self, name).to(self.clip.device) for name in self.encoders}
        extras = encode_all({IMAGE: self.clip, **others}, views, self.clip)
        return extras.pop(f"{IMAGE}_features"), extras

    def forward(self, features: Tensor, image_norm: Tensor | None = None, **extras: Tensor) -> Adaptation:
        """Adapts to one image or to each image of a batch.

        Args:
            features: (V, E) or (B, V, E) features of the views, of unit length; view 0 is the unaugmented image.
            image_norm: () or (B,) lengths of view 0's features before they were scaled to 1.
            extras: further inputs, as `encode` returns them: `NAME_features`, (V, E2) or (B, V, E2), features of the
                same views from another encoder.  Those that `needs` does not name are ignored.

        Raises:
            UserError: a wrong shape, features that are not finite (the message names the images) or not of unit length,
                or a missing input that the method needs.
        """
        if image_norm is not None:
            extras[IMAGE_NORM] = image_norm
        features = torch.as_tensor(features, device=self.clip.device)
        out = self.adapt(self._batch(features), **self._needed(features, extras))
        return out if features.ndim == 3 else out.squeeze()

    @torch.no_grad()
    def show(self, features: Tensor, **extras: Tensor) -> ShownViews:
        """The (B, V) order in which a contact sheet shows the views; takes the same arguments as `forward`."""
        return self.view_order(self._batch(features), **self._needed(features, extras))

    def _batch(self, features: Tensor) -> Tensor:
        width = self.clip.embed_dim
        if features.ndim not in (2, 3) or features.shape[-1] != width or 0 in features.shape:
            raise UserError(
                f"Expected view features of shape (V, {width}) or (B, V, {width}), got {tuple(features.shape)}; "
                "compute them with `clip.encode_views`."
            )
        features_BVE = features if features.ndim == 3 else features[None]
        _refuse_not_finite(features_BVE)
        features_BVE = features_BVE.float()
        low, high = (float(x) for x in features_BVE.norm(dim=-1).aminmax())
        if max(1 - low, high - 1) > MOST_OFF:  # the temperature would be another
            raise UserError(
                f"Expected view features of length 1, got lengths from {low:.3g} to {high:.3g}; divide each by its "
                "length, as `clip.encode_views` does."
            )
        self.check_views(features_BVE.shape[1])
        return features_BVE

    def _needed(self, features: Tensor, extras: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The inputs in `needs` as float32 batches: (B,) lengths, and (B, V, E2) features."""
        found, lead = {}, (1, *features.shape[:-1])[-2:]  # B, V
        for name in self.needs:
            value, ndim = extras.get(name), 1 if name == IMAGE_NORM else 3
            if value is None:
                other = ", or use meta_input=unit" if name == IMAGE_NORM else ""
                raise UserError(
                    f"Expected `{name}`, which the method needs, got none; compute it with "
                    f"`features, extras = method.encode(views)`{other}."
                )
            batch = value[None] if value.ndim == ndim - 1 else value
            if batch.ndim != ndim or batch.shape[:2] != lead[:ndim]:
                raise UserError(f"Expected `{name}` of leading shape {lead[:ndim]}, got shape {tuple(value.shape)}.")
            if ndim == 3:
                _refuse_not_finite(batch)
            found[f"{name}_{'B' if ndim == 1 else 'BVE'}"] = batch.float()
        return found


def _refuse_not_finite(features_BVE: Tensor) -> None:
    bad = (~features_BVE.isfinite()).flatten(1).any(1).nonzero().flatten().tolist()
    if bad:
        raise UserError(
            f"Expected finite view features, got NaN or infinity for image {', '.join(map(str, bad))} of the "
            "batch; check the image, or use precision=fp32."
        )


class SelectingMethod(Method):
    """A method that trusts its most confident views only.

    Args:
        selection_p: share of the views kept, in (0, 1]; TPT's 0.1.  The number is rounded down.
        min_selected: least number of views kept; with 0, as in TPT's paper, a share that keeps none is an error.
    """

    selection_p: ViewShare = 0.1
    min_selected: Natural = 0

    def check_views(self, num_views: int) -> None:
        """Raises a UserError if no view would be selected, or if there are fewer views than `min_selected`."""
        num_selected(num_views, self.selection_p, self.min_selected)

    def select(self, logits_BVK: Tensor) -> Tensor:
        """(B, S) indices of the most confident views."""
        return select_confident(logits_BVK, self.selection_p, self.min_selected)


def gather_views(values_BVX: Tensor, selected_BS: Tensor) -> Tensor:
    """(B, S, X) rows of the selected views, from a tensor such as features or logits."""
    return torch.gather(values_BVX, 1, selected_BS[..., None].expand(-1, -1, values_BVX.shape[-1]))
