"""Running measures of a resumed run."""

from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from tpt.engine.callbacks.metrics import DatasetMetrics
from tpt.results.tables.results import table_of


class Logged(list[tuple[dict[str, float], int]]):
    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.append((metrics, step))


def rows(path: str, rank: int | None) -> list[dict[str, Any]]:
    """One record whose label has this rank, without an answer if it is None; no measure needs the dataset."""
    answer = {"rank": rank, "rank_zero_shot": 1, "problem": None if rank is not None else "damaged"}
    return [{"path": path, "label": 0, **answer}]


def test_a_resumed_run_counts_every_image_that_was_tested() -> None:
    """Also those without an answer, as while it ran."""
    logged = Logged()
    metrics, trainer = DatasetMetrics(every_n_images=1), SimpleNamespace(loggers=[logged])
    earlier = table_of([*rows("x", 0), *rows("y", None)]).append_column("dataset", pa.array(["a", "a"]))
    metrics.begin(trainer, {}, None, earlier)  # type: ignore[arg-type]
    outcome = SimpleNamespace(dataset=SimpleNamespace(name="a"), rows=rows("z", 1))
    metrics.on_test_batch_end(trainer, None, outcome)  # type: ignore[arg-type]
    ((values, step),) = logged
    assert step == 3 and values["test/a/acc"] == 50.0
