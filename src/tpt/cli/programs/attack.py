"""Writes adversarial copies of datasets: `tpt-attack --out DIR [SETTING ...]`, with settings of tpt-test.

Each image is changed by at most EPS/255 per pixel so that the backbone's zero-shot answer becomes wrong, and written as
PNG in the dataset's own layout; test it with `data.root=DIR`.  Run the same command again to continue.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tpt.cli.errors import told
from tpt.cli.programs.arguments import add_device, new_parser
from tpt.engine import stop
from tpt.engine.printing import say

EPILOG = """examples:
  tpt-attack --out attacked data=emoji_shift
  tpt-attack --out /attacked --steps 100 data=catalog data.keys=[dtd,eurosat] data.root=/data backbone=vit_b16"""
OPTIONS = ("eps", "step", "steps", "batch_size")
WORDS = tuple((rf"`{name}`", f"--{name.replace('_', '-')}") for name in OPTIONS)


@stop.leaving()
@told(WORDS)
def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the copies; a short message and exit code 1 on a user's mistake."""
    parser = new_parser("tpt-attack", __doc__, EPILOG)
    add = parser.add_argument
    add("settings", nargs="*", metavar="SETTING", help="settings of tpt-test: data, backbone, context, seed and others")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the copies")
    add("--eps", type=float, default=4.0, help="largest change of a pixel, in units of 1/255; default %(default)s")
    add("--step", type=float, help="step size, in units of 1/255; default a quarter of --eps")
    add("--steps", type=int, default=7, help="steps of projected gradient descent; default %(default)s")
    add("--batch-size", type=int, default=32, metavar="N", help="images per batch; default %(default)s")
    add_device(parser)
    args = parser.parse_args(arguments)
    from hydra.utils import instantiate  # noqa: PLC0415 -- these take seconds to load

    from tpt.cli.compose import Parts, compose  # noqa: PLC0415
    from tpt.engine.attack import attack_dataset  # noqa: PLC0415

    cfg = compose([("method", "zero_shot")], overrides=args.settings)
    parts = Parts.of(cfg, device=args.device)
    root = Path(cfg.data.root).expanduser() if isinstance(cfg.data.get("root"), str) else None
    given = {name: getattr(args, name) for name in OPTIONS}
    for dataset in instantiate(cfg.data.module).datasets:
        say(f"{dataset.name}: attacking {len(dataset):,} images", error=True)
        place = attack_dataset(dataset, parts.make_method(dataset), args.out, root, seed=cfg.seed, **given)
        say(f"{dataset.name}: {len(dataset):,} attacked images in {place}")
