"""The base class of methods that learn from earlier images, and the view of an image that they get."""

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tpt.errors import UserError
from tpt.methods.base import Adaptation, Method, ViewShare
from tpt.methods.functional import entropy, marginal_entropy, select_confident

Feature = Literal["view0", "confident"]
State = dict[str, Tensor]
# Keys in a state: how many images it has seen, and a digest of the method's class, the classes and the backbone.
IMAGES, ORIGIN = "images", "origin"


@dataclass(frozen=True)
class Seen:
    """One image of a stream; quantities derived from its views are computed on first use.

    Args:
        number: position in the stream, from 1.
        views: (V, E) unit features of the views, view 0 the image.
        text: (K, E) features of the classes.
        scale: the logit scale.
        selection_p: share of the views that are selected, at least one view; None selects only view 0.
    """

    number: int
    views: Tensor
    text: Tensor
    scale: float
    selection_p: float | None = None

    @cached_property
    def view_logits(self) -> Tensor:
        """(V, K) zero-shot logits of all views."""
        return self.scale * self.views @ self.text.T

    @cached_property
    def initial_logits(self) -> Tensor:
        """(K,) zero-shot logits of view 0."""
        return self.scale * (self.text @ self.views[0]) if self.selection_p is None else self.view_logits[0]

    @cached_property
    def selected(self) -> Tensor:
        """(S,) indices of the selected views, the most confident first."""
        if self.selection_p is None:
            return torch.zeros(1, dtype=torch.long, device=self.views.device)
        return select_confident(self.view_logits, self.selection_p, min_selected=1)

    @cached_property
    def selected_logits(self) -> Tensor:
        """(S, K) logits of the selected views."""
        return self.initial_logits[None] if self.selection_p is None else self.view_logits[self.selected]

    @cached_property
    def selected_features(self) -> Tensor:
        """(S, E) features of the selected views."""
        return self.views[self.selected]

    @cached_property
    def feature(self) -> Tensor:
        """(E,) mean feature of the selected views, not scaled to unit length again."""
        return self.selected_features.mean(0)

    @cached_property
    def logits(self) -> Tensor:
        """(K,) mean logits of the selected views."""
        return self.selected_logits.mean(0)

    @cached_property
    def selected_probabilities(self) -> Tensor:
        """(S, K) predictions of the selected views."""
        return self.selected_logits.softmax(-1)

    @cached_property
    def entropy(self) -> Tensor:
        """() marginal entropy of the selected views, in nats."""
        return marginal_entropy(self.selected_logits)


class StreamMethod(Method):
    """Classifies images in order and learns from each without labels, so answers depend on the order.

    A batch of N images and N batches of one image give the same answers (for DOTA, up to rounding).  A subclass creates
    its tensors in `start` and answers one image in `step`, or several in `steps`.

    Args:
        feature: what represents an image: "view0", or "confident", the mean feature of the most confident views.
        selection_p: share of the views that count as confident, in (0, 1]; at least one view is kept.

    Attributes:
        grows: names of the entries of the state whose first dimension is the number of images seen.
        images: number of images seen since the last reset.

    Raises:
        UserError: an unknown `feature`, a share out of range, or a CoCoOp context.
    """

    kind: ClassVar[Literal["episodic", "stream"]] = "stream"
    paper: ClassVar[Mapping[str, Mapping[str, Any]]] = {  # the templates of TDA's code, which most stream methods use
        "imagenet": {"templates": "imagenet_7"},
        "natural_shift": {"templates": "imagenet_7"},
        "imagenet_r": {"templates": "imagenet_80"},
        "imagenet_sketch": {"templates": "imagenet_80"},
        "fine_grained": {"templates": "dataset"},
        "caltech101": {"templates": "imagenet_7"},
        "stanford_cars": {"templates": "imagenet_7"},
        "sun397": {"templates": "imagenet_7"},
    }
    grows: ClassVar[tuple[str, ...]] = ()
    feature: Feature = "view0"
    selection_p: ViewShare = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bank.conditional is not None:
            raise UserError(
                f"Expected a text that all images share, got a context of CoCoOp, which each image makes its own of: "
                f"what {type(self).__name__} learns from one image would not fit the next; use words, templates or a "
                "context of CoOp."
            )
        self.images = 0
        self._state: State | None = None  # created on first use, since it needs the text features

    @abstractmethod
    def start(self, text_KE: Tensor) -> State:
        """The state before the first image: tensors of a fixed shape, on the device of the text features."""

    @abstractmethod
    def step(self, image: Seen, state: State) -> Tensor:
        """(K,) logits of one image; updates `state`, by assigning entries or in place."""

    def steps(self, images: Sequence[Seen], state: State) -> Iterable[Tensor]:
        """(K,) logits of each image, in order; override it if the method is faster with several images at once."""
        return (self.step(image, state) for image in images)

    def begin_dataset(self, images: int) -> None:
        """Starts a new stream of `images` images."""
        self.reset()

    def reset(self) -> None:
        """Forgets all images."""
        self.images, self._state = 0, None

    def state(self) -> State:
        """A copy of the current state on the CPU, safe to save: `torch.load(weights_only=True)` reads it back."""
        found = {name: value[: self.images] if name in self.grows else value for name, value in self._current().items()}
        found |= {IMAGES: torch.tensor(self.images), ORIGIN: self._origin()}
        return {name: value.to("cpu", copy=True) for name, value in found.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Replaces the current state with one that `state()` returned.

        Raises:
            UserError: the state is from another method, backbone or list of classes, or other settings gave it another
                form.  The current state is then unchanged.  A state of version 0.1 is only compared by its form.
        """
        text_KE, origin = self.bank(), state.get(ORIGIN)
        state = {name: value for name, value in state.items() if name != ORIGIN}
        with torch.device("meta"):  # only shapes
            expected = self.start(text_KE.to("meta")) | {IMAGES: torch.tensor(0)}
        for name in self.grows if IMAGES in state else ():
            expected[name] = expected[name].new_empty(int(state[IMAGES]), *expected[name].shape[1:])
        for name in {**expected, **state}:
            if (given := _form(state.get(name))) != (wanted := _form(expected.get(name))):
                raise UserError(
                    f"Expected a state of {type(self).__name__} with these classes, this backbone and these settings, "
                    f"got `{name}`: {given}, in place of {wanted}."
                )
        if origin is not None and not torch.equal(origin.cpu(), self._origin()):
            raise UserError(
                f"Expected a state of {type(self).__name__} with these classes in this order and this backbone, got "
                "another's; make the method as it was then."
            )
        self._state = None  # frees its memory before the new state is copied
        self._state = {name: value.to(text_KE.device, copy=True) for name, value in state.items() if name != IMAGES}
        self.images = int(state[IMAGES])

    def adapt(self, features_BVE: Tensor, **needed: Tensor) -> Adaptation:
        """Answers B images in order, each with what was learned from the images before it."""
        with torch.inference_mode(False), torch.no_grad():  # a state must outlive the caller's inference mode
            text_KE, state = self.bank(), self._current()
            share = self.selection_p if self.feature == "confident" else None
            # A copy has the same memory alignment for any batch size, and so gives bit-equal results.
            images = [
                Seen(number, views_VE.clone(), text_KE, self.clip.logit_scale, share)
                for number, views_VE in enumerate(features_BVE, self.images + 1)
            ]
            answers = []
            for image, logits_K in zip(images, self.steps(images, state), strict=True):
                self.images = image.number
                answers.append((logits_K, image.initial_logits, image.selected, entropy(logits_K), image.entropy))
            return Adaptation(*(torch.stack(values) for values in zip(*answers, strict=True)))

    def _origin(self) -> Tensor:
        """(16,) bytes: a digest of what gives the entries of a state their meaning."""
        text = "\n".join((type(self).__name__, self.clip.weights_digest, *self.class_names))
        return torch.tensor(
            list(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]), dtype=torch.uint8
        )

    def _current(self) -> State:
        if self._state is None:
            self._state = self.start(self.bank())
        return self._state


def _form(value: Any) -> str:
    """The type and shape of an entry of a state."""
    return f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
