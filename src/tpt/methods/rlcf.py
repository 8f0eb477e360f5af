"""RLCF: a second CLIP rewards the most likely classes of the confident views; Zhao et al., ICLR 2024."""

from functools import partial
from typing import Annotated, ClassVar

import torch
from annotated_types import Le
from torch import Tensor

from tpt.clip.model import LoadedCLIP
from tpt.clip.prompts.context import words_around
from tpt.clip.prompts.learner import clean_name
from tpt.errors import Count, Natural, NotNegative, refuse
from tpt.methods.base import gather_views
from tpt.methods.tpt import TPT
from tpt.methods.tuner import MakeOptimizer

CLIP_SCORE = 2.5  # factor on the cosine (Hessel et al., EMNLP 2021)
PLACEHOLDER = "X"  # replaces each vector of a context without words in the reward model's prompt
OPTIMIZER = partial(torch.optim.AdamW, weight_decay=5e-4)  # as in the published scripts


class RLCF(TPT):
    """Tunes the context to raise the probability of classes that a reward model scores highly.

    Section 3.2 of the paper, in the variant that tunes prompts.  The method needs the reward model's features of the
    same views: `features, extras = method.encode(views)`, then `method(features, **extras)`.

    Args:
        reward: the reward model, a CLIP; the paper's is ViT-L/14.
        sample_k: number of most likely classes per view that are rewarded, from 1 to K; the published scripts' 3.
        amplify: whether rewards are divided by their standard deviation.
        process_batch: whether the mean and the standard deviation of the scores are taken over all selected views of an
            image instead of over the classes of each view.
        ctx_init: words of the prompt, which the reward model reads too; if None, it reads "X" for each of the `n_ctx`
            vectors.
        n_ctx: number of vectors if there are no words, by default 4.
        steps: optimizer steps per image; the published scripts' 3 for ImageNet and its variants, and 5 for the ten
            fine-grained datasets.
        lr: learning rate; the published scripts' 7e-3.
        optimizer: called with the parameters and `lr`; the published scripts' AdamW with weight decay 5e-4.
    """

    encoders: ClassVar = ("reward",)
    paper: ClassVar = {"": {"sample_k": 3, "steps": 3, "lr": 7e-3}, "fine_grained": {"steps": 5}}

    reward: LoadedCLIP
    sample_k: Count = 3
    amplify: bool = False
    process_batch: bool = False
    steps: Natural = 3
    lr: NotNegative = 7e-3
    optimizer: MakeOptimizer = OPTIMIZER

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse("sample_k", Annotated[int, Le(len(self.class_names)), "there are no more classes"], self.sample_k)
        words = " ".join([PLACEHOLDER] * self.learner.context.n_ctx) if self.ctx_init is None else self.ctx_init
        before, _, behind = words_around(words)
        around = (before.strip(), behind.strip())
        self._prompts = [" ".join(filter(None, (around[0], clean_name(n), around[1]))) + "." for n in self.class_names]
        self._reward_text: Tensor | None = None  # (K, E2)
        self.notes = (*self.notes, f"rewards by {self.reward.name}")

    def objective(self, logits_BSK: Tensor, text_BKE: Tensor, *per_image: Tensor) -> Tensor:
        """(B,) mean of reward times -log probability, over the `sample_k` most likely classes of each view.

        The reward of such a class is its score minus the mean score; if there is one class per view, the score itself.
        """
        (scores_BSK,) = per_image
        top_BSk = logits_BSK.detach().topk(self.sample_k, dim=-1).indices
        rewards = scores = scores_BSK.gather(-1, top_BSk)
        together = (-2, -1) if self.process_batch else (-1,)
        if self.sample_k > 1:
            rewards = scores - scores.mean(together, keepdim=True)
            if self.amplify:
                rewards = rewards / (scores.std(together, keepdim=True) + 1e-5)
        return -(rewards * logits_BSK.log_softmax(-1).gather(-1, top_BSk)).mean((-2, -1))

    @torch.no_grad()
    def per_image(self, selected_BS: Tensor, **needed: Tensor) -> tuple[Tensor, ...]:
        """The reward model's (B, S, K) scores of the selected views for all classes."""
        if self._reward_text is None:
            self._reward_text = self.reward.encode_text(self._prompts)
        features_BSE = gather_views(needed["reward_features_BVE"], selected_BS)
        return ((CLIP_SCORE * features_BSE @ self._reward_text.T).clamp(min=0),)
