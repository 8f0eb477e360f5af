"""Trust tables: every score that the records allow, before and after; missing inputs are named."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.results.tables.made_runs import answers, make_run
from tpt.cli.programs.report import main
from tpt.results.figures import figures_of
from tpt.results.runs.records import write_shard
from tpt.results.tables.results import averages
from tpt.results.tables.runs import load_run, load_runs
from tpt.results.tables.trust import COLUMNS, logits_of, mean_trust, trust_grids, trust_of

N, K = 60, 3


def rows_with_logits(seed: int = 0) -> list[dict[str, Any]]:
    """Records whose predictions, confidences and ranks follow from their logits."""
    rng, rows = np.random.default_rng(seed), []
    for row in answers("a", 50, 50, N):
        label = int(rng.integers(K))
        for end, scale in (("", 4.0), ("_zero_shot", 1.0)):
            logits = (rng.normal(size=K) * scale).astype(np.float16).astype(np.float32)
            probs = np.exp(logits) / np.exp(logits).sum()
            row |= {f"logits{end}": logits, f"pred{end}": int(probs.argmax()), f"confidence{end}": float(probs.max())}
            row |= {f"rank{end}": int((probs > probs[label]).sum()), "label": label}
        rows.append(row)
    return rows


def with_everything(folder: Path) -> Path:
    rows = rows_with_logits()
    outside = [
        {**row, "dataset": "a_outside", "label": None, "rank": None, "rank_zero_shot": None} for row in rows[:20]
    ]
    make_run(folder, {"a": [], "a_outside": []}, about={"a": {"to_test": N, "size": N, "classes": K}})
    write_shard(rows, folder / "records", "00-a-0000000", logits=True)
    write_shard(outside, folder / "records", "01-a_outside-0000000", logits=True)
    return folder


def test_scores_before_and_after(tmp_path: Path) -> None:
    """Scores agree with plain loops over the records."""
    run, rows = load_run(with_everything(tmp_path)), rows_with_logits()
    found = trust_of(run, "a", logits_of(run))
    assert set(found) == set(COLUMNS)
    for place, end in enumerate(("_zero_shot", "")):
        side = {name: scored[place] for name, scored in found.items()}
        probs = [np.exp(row[f"logits{end}"].astype(float)) for row in rows]
        probs = [each / each.sum() for each in probs]
        assert side["NLL"] == pytest.approx(np.mean([-np.log(p[r["label"]]) for p, r in zip(probs, rows, strict=True)]))
        own, others = ([r[f"confidence{end}"] for r in some] for some in (rows, rows[:20]))
        above = np.mean([(a > b) + (a == b) / 2 for a in own for b in others])
        assert side["AUROC"] == pytest.approx(100 * above)
    mean = mean_trust([found, found])
    for name, (before, after, change) in found.items():
        assert change is not None and change.mean == pytest.approx(after - before)
        assert change.low < change.mean < change.high
        assert mean[name].after == pytest.approx(after)
        of_mean = mean[name].change
        assert of_mean is not None and of_mean.high - of_mean.low < change.high - change.low


def test_missing_inputs_of_old_runs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_everything(tmp_path / "new")
    make_run(tmp_path / "old", {"a": answers("a", 50, 60, N)}, settings={"method.steps": 2})
    main([str(tmp_path), "--trust", "--format", "markdown"])
    said = capsys.readouterr().out
    assert "need callbacks.records.logits=true" in said and "need data.outside" in said
    assert said.count("tpt (steps=2)") == 3 and "tpt (steps=1) lacked" not in said
    main([str(tmp_path / "old"), "--trust", "--format", "csv"])
    assert capsys.readouterr().out.startswith("method,backbone,ECE,adaptive ECE,AURC\n")
    make_run(tmp_path / "none", {"a": []})
    with pytest.raises(ValueError, match="no answers for images with labels"):
        trust_grids(load_runs([tmp_path / "none"]))


def test_images_outside_the_classes_are_in_no_other_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = load_run(with_everything(tmp_path))
    datasets = run.results["datasets"]
    assert set(datasets) == {"a", "a_outside"} and averages(datasets)["acc"] == datasets["a"]["acc"]
    main([str(tmp_path), "--format", "csv"])
    assert "outside" not in capsys.readouterr().out


def test_risk_coverage_figure(tmp_path: Path) -> None:
    run = load_run(with_everything(tmp_path))
    (axes,) = dict(figures_of([run], kinds=["risk"]))["risk_tpt"].axes
    before, after = axes.lines
    for line, end in ((before, "_zero_shot"), (after, "")):
        rows = sorted(rows_with_logits(), key=lambda row: -row[f"confidence{end}"])
        wrong = np.array([row[f"rank{end}"] > 0 for row in rows])
        np.testing.assert_allclose(line.get_ydata(), 100 * np.cumsum(wrong) / np.arange(1, N + 1), rtol=1e-6)
        assert line.get_xdata()[-1] == pytest.approx(100)  # type: ignore[index]
