"""The answers and views as HTML that loads nothing from other sites."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from tpt.cli.demo.controls import about
from tpt.cli.demo.look import Look
from tpt.engine.contact_sheet import PictureViews

TOP = 5  # most probable classes, before and after
SIDE = 112  # size of a view, in pixels

NOTHING_YET = '<div class="tpt-empty">Drop a picture, or click a drawing.</div>'


def problem_html(sentence: str) -> str:
    """An error message, in place of the answers."""
    return f'<div class="tpt-problem" role="alert">{escape(sentence)}</div>'


def about_html(method: str) -> str:
    """A method's description and a link to its paper."""
    said, paper = about(method)
    link = f' <a href="{escape(paper)}" target="_blank" rel="noopener noreferrer">Paper</a>' if paper else ""
    return f'<p class="tpt-about">{escape(said)}.{link}</p>'


def answers_html(look: Look) -> str:
    """The answers before and after, the most probable classes side by side, and the time."""
    one, other = int(look.before.argmax()), int(look.after.argmax())
    remark = "the same answer" if one == other else "a different answer"
    cards = _card("before", "before", look.class_names[one], look.before[one]) + _card(
        "after", f"after {look.method}", look.class_names[other], look.after[other], remark
    )
    rows = "".join(_row(look, k, k == other) for k in shown_classes(look))
    stages = "".join(f"<span>{escape(stage)} <b>{seconds:.2f} s</b></span>" for stage, seconds in look.seconds.items())
    cost = f'<div class="tpt-cost"><span>total <b>{sum(look.seconds.values()):.2f} s</b></span>{stages}</div>'
    head = "<tr><th></th><th colspan=2>before</th><th colspan=2>after</th><th></th></tr>"
    return f'<div class="tpt-answers">{cards}</div><table class="tpt-bars">{head}{rows}</table>{cost}'


def shown_classes(look: Look) -> list[int]:
    """The most probable classes before or after, sorted by their probability after."""
    found = {int(k) for p in (look.before, look.after) for k in np.argsort(-p, kind="stable")[:TOP]}
    return sorted(found, key=lambda k: -float(look.after[k]))


def _card(kind: str, when: str, what: str, probability: float, remark: str = "") -> str:
    sure = f"{100 * probability:.1f} %" + (f", {remark}" if remark else "")
    return (
        f'<div class="tpt-card {kind}"><div class="when">{escape(when)}</div><div class="what">{escape(what)}</div>'
        f'<div class="sure">{sure}</div></div>'
    )


def _row(look: Look, k: int, answer: bool) -> str:
    before, after = (100 * float(p[k]) for p in (look.before, look.after))
    bars = (
        f'<td><div class="tpt-bar {when}"><i style="width:{value:.2f}%"></i></div></td>'
        f'<td class="number">{value:.1f} %</td>'
        for when, value in (("before", before), ("after", after))
    )
    return (
        f'<tr class="{"answer" if answer else ""}"><td class="name">{escape(look.class_names[k])}</td>{"".join(bars)}'
        f'<td class="change">{_signed(after - before)}</td></tr>'
    )


def _signed(points: float) -> str:
    """Percentage points with a sign, except zero."""
    return "0.0" if abs(points) < 0.05 else f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")


def views_html(look: Look) -> str:
    """The views in order, the selected ones framed."""
    views, chosen = look.views, set(look.views.selected)
    tiles = "".join(_tile(views, view, view in chosen) for view in views.order)
    said = f"{len(chosen)} of {len(views.order)} views selected (framed). Below each view: {escape(views.value_name)}."
    return f'<p class="tpt-note">{said}</p><div class="tpt-views">{tiles}</div>'


def _tile(views: PictureViews, view: int, selected: bool) -> str:
    name = "the picture" if view == 0 else f"view {view}"
    kind = "selected" if selected else "other"
    return (
        f'<figure class="{kind}"><img alt="{name}" title="{name}" src="{data_uri(views.pixels[view])}">'
        f"{views.values[view]:.2f}{' · picture' if view == 0 else ''}</figure>"
    )


def data_uri(pixels: np.ndarray) -> str:
    """An image (H, W, 3) as a data URI."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE, SIDE))  # only makes it smaller
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
