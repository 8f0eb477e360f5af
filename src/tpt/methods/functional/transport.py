"""Optimal transport between two weighted sets, regularised by its entropy."""

import torch
from torch import Tensor

ROUNDS = 100  # at most
STOP = 1e-2  # a problem is solved when its row scales change by less, on average


def sinkhorn(kernel_BKVM: Tensor, rows_BV: Tensor, columns_BKM: Tensor) -> Tensor:
    """(B, K, V, M) plans that move the rows' weights to the columns' weights, one per problem (B x K in all).

    Sinkhorn's algorithm (Cuturi, NeurIPS 2013).  A plan's column sums are exact; its row sums are exact up to the
    tolerance of the last round.  The K problems of an image stop together, when their mean change is below the
    tolerance, as in AWT's code.

    Args:
        kernel_BKVM: exp(-cost / epsilon).
        rows_BV: weights of the rows, above 0, with sum 1; the same for all K.
        columns_BKM: weights of the columns, with sum 1.  A column of weight 0 gets nothing, so it may be padding.
    """
    rows_BKV = rows_BV[:, None].expand(kernel_BKVM.shape[:-1])
    row_scale, column_scale = torch.ones_like(rows_BKV), (columns_BKM > 0).to(kernel_BKVM)
    going_B = torch.ones(len(rows_BV), dtype=torch.bool, device=rows_BV.device)
    for _ in range(ROUNDS):
        new_rows = rows_BKV / (kernel_BKVM @ column_scale[..., None])[..., 0]
        new_columns = columns_BKM / (kernel_BKVM.mT @ new_rows[..., None])[..., 0]
        change_B = (new_rows - row_scale).abs().mean((-2, -1))
        row_scale = torch.where(going_B[:, None, None], new_rows, row_scale)
        column_scale = torch.where(going_B[:, None, None], new_columns, column_scale)
        going_B = going_B & (change_B >= STOP)
        if not going_B.any():
            break
    return row_scale[..., None] * kernel_BKVM * column_scale[..., None, :]
