"""Prints the vocabulary words nearest to each vector of a learned context: `tpt-words PATH --backbone NAME`.

CoOp's paper does the same (appendix, table of nearest words), and warns that the words are hard to interpret: the
nearest word may be far away, so distances are shown.
"""

from __future__ import annotations

from collections.abc import Sequence

from tpt.cli.errors import told
from tpt.cli.programs.arguments import new_parser, whole
from tpt.engine.printing import say
from tpt.errors import Count
from tpt.files.names import context_file


@told()
def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the words; a short message and exit code 1 on a user's mistake."""
    parser = new_parser("tpt-words", __doc__)
    add, count = parser.add_argument, whole(Count)
    add("path", metavar="PATH", help="a context of CoOp or CoCoOp: a file, or the directory of a training run")
    add("--backbone", metavar="NAME", help="open_clip name of the CLIP it was learned with; default the bundled one")
    add("--pretrained", metavar="WEIGHTS", help="an open_clip tag, or a weights file")
    add("--top", type=count, default=5, metavar="N", help="words per vector; default %(default)s")
    shown = "classes to show of a class-specific context, or all; default %(default)s"
    add("--classes", type=lambda text: None if text == "all" else count(text), default=5, metavar="N", help=shown)
    args = parser.parse_args(arguments)
    file = context_file(args.path)
    from tpt.clip import load_clip  # noqa: PLC0415 -- these take seconds to load
    from tpt.clip.prompts import context_from_file  # noqa: PLC0415
    from tpt.clip.prompts.words import report  # noqa: PLC0415

    clip = load_clip(args.backbone, args.pretrained)
    say("\n".join(report(clip, context_from_file(clip, file), args.top, args.classes)))
