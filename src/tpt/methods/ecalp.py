"""ECALP: label propagation over a graph of the texts and all images so far; Li et al., ICLR 2025."""

import logging
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from tpt.errors import Count, UserError
from tpt.methods.base import ViewShare
from tpt.methods.functional.propagation import NONE, nearest, propagated, with_neighbour
from tpt.methods.stream import Feature, Seen, State, StreamMethod

log = logging.getLogger(__name__)
MANY = 10_000_000  # images times classes: about 0.1 s per image on one core; above this, a warning says it will be slow
SHARPNESS = 10_000  # factor from scores to logits
CARRIED = 5  # an image's largest score, divided by this, is its initial score for the next propagation


class ECALP(StreamMethod):
    """Classifies an image by label propagation from the texts and from similar images seen before.

    This is the zero-shot form of the paper.  The image joins the graph before it is answered.  The state and the time
    per image grow with the number of images seen (docs/stream_measurements.md).  Nearly all predictions have a
    confidence close to 1, whether right or wrong.

    Args:
        text_neighbours: number of texts that an image is connected to, at least 1.
        image_neighbours: number of images that it is connected to, including itself; at least 1.
        gamma: exponent of the similarities, a whole number of at least 1; an odd one keeps the sign of negative ones.
        alpha: weight of the neighbours' scores against a node's own, in [0, 1].
        rounds: propagation rounds per image, at least 1.
    """

    selects: ClassVar[bool] = False
    grows: ClassVar[tuple[str, ...]] = (
        "weighted", "image_values", "image_indices", "text_values", "text_indices", "scores", "labels",
    )  # fmt: skip
    paper: ClassVar = {"": {"text_neighbours": 3, "image_neighbours": 8, "gamma": 10.0, "alpha": 1.0, "rounds": 3}}
    feature: Feature = field(default="view0", init=False)  # no setting: it sees view 0 only
    selection_p: ViewShare = field(default=0.1, init=False)
    text_neighbours: Count = 3
    image_neighbours: Count = 8
    gamma: Annotated[float, Ge(1)] = 10.0
    alpha: Annotated[float, Ge(0), Le(1)] = 1.0
    rounds: Count = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma % 1:
            raise UserError(f"Expected `gamma` to be a whole number, got {self.gamma!r}: similarities may be negative.")

    def begin_dataset(self, images: int) -> None:
        """Starts a new stream of `images` images and warns if it will be slow."""
        super().begin_dataset(images)
        if images * len(self.class_names) > MANY:
            said = "ECALP propagates labels over all earlier images: the last of %d images of %d classes will be slow"
            log.warning(said, images, len(self.class_names))

    def start(self, text_KE: Tensor) -> State:
        """A graph without images."""
        near, texts = self.image_neighbours, min(self.text_neighbours, len(text_KE))
        none = text_KE.new_zeros(0, dtype=torch.long)
        return {
            "spread": F.normalize(text_KE.var(0), dim=0),  # weights of the coordinates
            "weighted": text_KE.new_zeros(0, text_KE.shape[1]),  # unit features, weighted by coordinate
            "image_values": text_KE.new_zeros(0, near),  # similarities of the nearest images, in descending order
            "image_indices": none.new_zeros(0, near),
            "text_values": text_KE.new_zeros(0, texts),
            "text_indices": none.new_zeros(0, texts),
            "scores": text_KE.new_zeros(0),  # an image's initial score, and the class that it is for
            "labels": none,
        }

    def step(self, image: Seen, state: State) -> Tensor:
        """(K,) logits of the image.

        As in the official code, the image joins the graph twice.  The answer is read at the copy, which is not stored.
        """
        image_E, seen = image.feature, image.number - 1
        own_E = F.normalize(state["spread"] * image_E, dim=0)
        values_T, texts_T = nearest(image.text @ image_E, min(self.text_neighbours, len(image.text)))
        new = {"weighted": own_E, "text_values": values_T, "text_indices": texts_T, "labels": texts_T[0]}
        _append(state, {**new, "scores": image_E.new_zeros(())}, seen)
        # One product per row: equal images then get bit-equal similarities, and the older image comes first.
        to_all = (state["weighted"][: seen + 1] * image_E).sum(-1)

        old = state["image_values"][:seen], state["image_indices"][:seen]
        once = with_neighbour(*old, to_all[:seen], seen)
        twice = with_neighbour(*once, to_all[:seen], seen + 1)
        own = self._own_neighbours(to_all)
        copy = self._own_neighbours(torch.cat([to_all, to_all[-1:]]))
        rows = torch.arange(seen + 2, device=image_E.device).clamp(max=seen)  # the copy shares the newest image's texts
        scores_NK = propagated(
            (state["text_values"][rows], state["text_indices"][rows]),
            (torch.cat([twice[0], copy[0].expand(2, -1)]), torch.cat([twice[1], copy[1].expand(2, -1)])),
            (state["scores"][rows], state["labels"][rows]),
            len(image.text),
            self.gamma,
            self.alpha,
            self.rounds,
        )
        state["image_values"][:seen], state["image_indices"][:seen] = once
        _append(state, dict(zip(("image_values", "image_indices"), own, strict=True)), seen)
        largest_N, labels_N = scores_NK[:-1].max(-1)
        state["scores"][: seen + 1], state["labels"][: seen + 1] = largest_N / CARRIED, labels_N
        return SHARPNESS * scores_NK[-1]

    def _own_neighbours(self, similarities_N: Tensor) -> tuple[Tensor, Tensor]:
        """(S,) similarities and indices of the nearest images; unused places have the similarity `NONE`."""
        values, indices = nearest(similarities_N, self.image_neighbours)
        missing = self.image_neighbours - len(values)
        return F.pad(values, (0, missing), value=NONE), F.pad(indices, (0, missing))


def _append(state: State, rows: Mapping[str, Tensor], held: int) -> None:
    """Writes a row of each entry after its first `held` rows; doubles the capacity when it is full."""
    for name, row in rows.items():
        if held == len(state[name]):
            state[name] = torch.cat([state[name], row.new_zeros(max(held, 64), *row.shape)])
        state[name][held] = row
