"""ECALP: labels spread over a graph of all images so far and the texts; Li et al., ICLR 2025."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, ClassVar, Unpack

import torch
import torch.nn.functional as F
from annotated_types import Ge, Le
from torch import Tensor

from tpt.clip.model import CLIP
from tpt.clip.prompts.text_bank import TextSettings
from tpt.errors import Count, UserError
from tpt.methods.functional.propagation import NONE, nearest, propagated, with_neighbour
from tpt.methods.stream import Seen, State, StreamMethod

log = logging.getLogger(__name__)
MANY = (
    10_000_000  # images times classes: about 0.1 s per image on one core, which is when a stream is announced as slow
)
SHARPNESS = 10_000  # logits per score
CARRIED = 5  # an image's largest score, divided by this, is what it starts the next round of labels with


class ECALP(StreamMethod):
    """Answers an image by the labels that reach it from the texts and from its neighbours among the images before.

    The zero-shot form of the paper.  The image joins the graph before it is answered.  The state and the time per image
    grow with the images seen (docs/methods.md).  Nearly all answers are near-certain, right or wrong.

    Args:
        clip: the frozen backbone.
        class_names: K names.
        text_neighbours: texts that an image is joined to, at least 1.
        image_neighbours: images that it is joined to, itself among them, at least 1.
        gamma: power of the similarities, a whole number of at least 1; an odd one keeps the sign of negative ones.
        alpha: share of what neighbours say, in [0, 1].
        rounds: how often labels are passed on for each image, at least 1.
        text: `ctx_init`, `context`, `templates`, ..., see `TextBank`.
    """

    selects: ClassVar[bool] = False
    grows: ClassVar[tuple[str, ...]] = (
        "weighted", "image_values", "image_indices", "text_values", "text_indices", "scores", "labels",
    )  # fmt: skip
    paper: ClassVar = {
        "": {"text_neighbours": 3, "image_neighbours": 8, "gamma": 10.0, "alpha": 1.0, "rounds": 3},
    }

    def __init__(
        self,
        clip: CLIP,
        class_names: Sequence[str],
        text_neighbours: Count = 3,
        image_neighbours: Count = 8,
        gamma: Annotated[float, Ge(1)] = 10.0,
        alpha: Annotated[float, Ge(0), Le(1)] = 1.0,
        rounds: Count = 3,
        **text: Unpack[TextSettings],
    ) -> None:
        super().__init__(clip, class_names, **text)
        self.text_neighbours = text_neighbours
        self.image_neighbours = image_neighbours
        self.gamma = gamma
        if self.gamma % 1:
            raise UserError(f"Expected `gamma` to be a whole number, got {gamma!r}: similarities may be negative.")
        self.alpha = alpha
        self.rounds = rounds

    def begin_dataset(self, images: int) -> None:
        """Starts a new stream of `images` images; warns if it will be slow."""
        super().begin_dataset(images)
        if images * len(self.class_names) > MANY:
            log.warning(
                "ECALP passes labels over all earlier images: the last of %d images of %d classes will be slow",
                images,
                len(self.class_names),
            )

    def start(self, text_KE: Tensor) -> State:
        """No images."""
        near, texts = self.image_neighbours, min(self.text_neighbours, len(text_KE))
        none = text_KE.new_zeros(0, dtype=torch.long)
        return {
            "spread": F.normalize(text_KE.var(0), dim=0),  # weights of the coordinates
            "weighted": text_KE.new_zeros(0, text_KE.shape[1]),  # unit features, weighted by coordinate
            "image_values": text_KE.new_zeros(0, near),  # similarity of the nearest images, by falling similarity
            "image_indices": none.new_zeros(0, near),
            "text_values": text_KE.new_zeros(0, texts),
            "text_indices": none.new_zeros(0, texts),
            "scores": text_KE.new_zeros(0),  # what an image starts with, and for which class
            "labels": none,
        }

    def step(self, image: Seen, state: State) -> Tensor:
        """(K,) logits of the image, which joins the graph twice: they are read at the copy, which is then removed."""
        image_E, seen = image.feature, image.number - 1
        own_E = F.normalize(state["spread"] * image_E, dim=0)
        _append(state, "weighted", own_E[None], seen)
        # Row by row: of equal images all neighbours then have the same bits, and the older one comes first.
        to_all = (state["weighted"][: seen + 1] * image_E).sum(-1)
        texts = nearest(image.text @ image_E, min(self.text_neighbours, len(image.text)))
        _append(state, "text_values", texts[0][None], seen)
        _append(state, "text_indices", texts[1][None], seen)

        old = state["image_values"][:seen], state["image_indices"][:seen]
        once = with_neighbour(*old, to_all[:seen], seen)
        twice = with_neighbour(*once, to_all[:seen], seen + 1)
        own = self._own_neighbours(to_all)
        copy = self._own_neighbours(torch.cat([to_all, to_all[-1:]]))
        _append(state, "scores", to_all.new_zeros(1), seen)
        _append(state, "labels", texts[1][:1], seen)
        rows = torch.arange(seen + 2, device=image_E.device).clamp(max=seen)  # the copy has the newest one's texts
        scores_NK = propagated(
            (state["text_values"][rows], state["text_indices"][rows]),
            (torch.cat([twice[0], copy[0].expand(2, -1)]), torch.cat([twice[1], copy[1].expand(2, -1)])),
            (state["scores"][rows], state["labels"][rows]),
            len(image.text),
            self.gamma,
            self.alpha,
            self.rounds,
        )
        for name, values, new in zip(("image_values", "image_indices"), once, own, strict=True):
            state[name][:seen] = values
            _append(state, name, new[None], seen)
        largest_N, labels_N = scores_NK[:-1].max(-1)
        state["scores"][: seen + 1], state["labels"][: seen + 1] = largest_N / CARRIED, labels_N
        return SHARPNESS * scores_NK[-1]

    def _own_neighbours(self, similarities_N: Tensor) -> tuple[Tensor, Tensor]:
        """(S,) similarities of the nearest ones and their indices; places that are left over point nowhere."""
        values, indices = nearest(similarities_N, self.image_neighbours)
        missing = self.image_neighbours - len(values)
        return F.pad(values, (0, missing), value=NONE), F.pad(indices, (0, missing))


def _append(state: State, name: str, row: Tensor, held: int) -> None:
    """Writes a row behind the `held` first ones; the room doubles when it is full."""
    if held == len(state[name]):
        state[name] = torch.cat([state[name], row.new_zeros(max(held, 64), *row.shape[1:])])
    state[name][held] = row[0]
