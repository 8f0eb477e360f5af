"""Transfer matrices as texts in lines and columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tpt.results.tables.grid import MISSING, Grid, Legend, Line, Text, signed
from tpt.results.tables.transfer import Transfer, TransferCell

PART = "a"  # letter of the one mark


def transfer_grids(matrices: Sequence[Transfer]) -> tuple[list[Grid], Legend]:
    """The matrices, sources in lines and targets in columns, and what stands under them."""
    cells = [cell for matrix in matrices for cell in matrix.cells.values()]
    partial = [
        f"{source} to {target} {cell.images:,} of {cell.images + cell.only_one:,}"
        for matrix in matrices
        for (source, target), cell in matrix.cells.items()
        if cell.only_one
    ]
    marks = ((PART, f"on the images that both runs have: {'; '.join(partial)}"),) if partial else ()
    remarks = ["(accuracy - zero-shot accuracy) / zero-shot accuracy on the target, as in the paper's Figure 2"]
    if cells:
        remarks.append("below it accuracy and zero-shot accuracy in %, and the 95 % interval of their difference")
    return [_grid(matrix) for matrix in matrices], Legend(marks, tuple(remarks))


def _grid(matrix: Transfer) -> Grid:
    header = ("learned on", "backbone", *matrix.targets)
    lines = [line for source in matrix.sources for line in _lines(matrix, source)]
    return Grid(f"Transfer of {matrix.method}", header, tuple(lines))


def _lines(matrix: Transfer, source: str) -> Iterator[Line]:
    cells = [matrix.cells.get((source, target)) for target in matrix.targets]
    yield Line(source, matrix.backbone, tuple(_text(cell) for cell in cells), main=True)
    yield Line("accuracy", "", tuple(Text(MISSING if c is None else f"{c.accuracy:.2f}") for c in cells), False)
    yield Line("zero-shot", "", tuple(Text(MISSING if c is None else f"{c.zero_shot:.2f}") for c in cells), False)
    intervals = (
        MISSING if c is None else f"{signed(c.difference.low, 1)} to {signed(c.difference.high, 1)}" for c in cells
    )
    yield Line("95 % interval", "", tuple(map(Text, intervals)), main=False)


def _text(cell: TransferCell | None) -> Text:
    if cell is None or cell.improvement is None:
        return Text(MISSING)
    return Text(signed(cell.improvement), (PART,) if cell.only_one else ())
