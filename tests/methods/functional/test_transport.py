"""Transport plans: weights, padding, and when each image stops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tpt.methods.functional.entropy import entropy, replaced_entropy
from tpt.methods.functional.transport import sinkhorn


def problems(seed: int, images: int = 3, classes: int = 4, views: int = 6, texts: int = 5) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    cosines = 0.2 + 0.3 * torch.rand(images, classes, views, texts, generator=generator)
    rows = torch.randn(images, views, generator=generator).softmax(-1)
    columns = torch.randn(images, classes, texts, generator=generator).softmax(-1)
    return ((cosines - 1) / 0.1).exp(), rows, columns


@given(seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_plan_moves_the_weights(seed: int) -> None:
    kernel, rows, columns = problems(seed)
    plans = sinkhorn(kernel, rows, columns)
    assert (plans >= 0).all()
    torch.testing.assert_close(plans.sum(-2), columns, atol=1e-6, rtol=0)
    torch.testing.assert_close(plans.sum(-1), rows[:, None].expand(3, 4, 6), atol=1e-3, rtol=0.05)
    outer = rows[:, None, :, None] * columns[..., None, :]
    cost = -kernel.log()
    assert ((plans * cost).sum((-2, -1)) < (outer * cost).sum((-2, -1))).all()  # cheaper than the independent plan


@given(seed=st.integers(0, 99), extra=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_a_column_without_weight_is_padding(seed: int, extra: int) -> None:
    kernel, rows, columns = problems(seed)
    padded = torch.nn.functional.pad(kernel, (0, extra), value=0.5)
    plans = sinkhorn(padded, rows, torch.nn.functional.pad(columns, (0, extra)))
    torch.testing.assert_close(plans[..., :-extra], sinkhorn(kernel, rows, columns))
    assert not plans[..., -extra:].any()


def test_each_image_stops_independently() -> None:
    """One image of the batch needs more rounds than the others."""
    kernel, rows, columns = problems(5)
    kernel[1] = kernel[1] ** 4
    together = sinkhorn(kernel, rows, columns)
    for i in range(3):
        alone = sinkhorn(kernel[i : i + 1], rows[i : i + 1], columns[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)


def test_one_column_takes_every_row() -> None:
    kernel, rows, columns = problems(1, texts=1)
    torch.testing.assert_close(sinkhorn(kernel, rows, columns)[..., 0], rows[:, None].expand(3, 4, 6))


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("classes", [1, 2, 7])
def test_entropy_with_one_logit_replaced(scale: float, classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits, own = scale * torch.randn(2, classes, generator=generator), scale * torch.randn(2, classes, 3)
    found = replaced_entropy(logits, own)
    for b in range(2):
        for k in range(classes):
            for m in range(3):
                changed = logits[b].double()
                changed[k] = own[b, k, m]
                torch.testing.assert_close(found[b, k, m].double(), entropy(changed), atol=1e-5, rtol=0)
