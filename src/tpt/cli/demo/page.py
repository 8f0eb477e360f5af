"""The answers and views as HTML that loads nothing from other sites."""

from __future__ import annotations

import base64
import io
from html import escape

import numpy as np
from PIL import Image

from tpt.cli.demo.look import Look
from tpt.cli.options import comments_of
from tpt.engine.contact_sheet import PictureViews
from tpt.results.tables.grid import signed

TOP = 5  # most probable classes, before and after
SIDE = 112  # size of a view, in pixels

NOTHING_YET = '<div class="tpt-empty">Drop a picture, or click a drawing.</div>'


def problem_html(sentence: str) -> str:
    """An error message, in place of the answers."""
    return f'<div class="tpt-problem" role="alert">{escape(sentence)}</div>'


def about_html(method: str) -> str:
    """A method's description and a link to its paper, from the comments in its options file."""
    lines = comments_of("method", method)
    papers = [line for line in lines if line.startswith("https://")]
    links = (f' <a href="{escape(url)}" target="_blank" rel="noopener noreferrer">Paper</a>' for url in papers[:1])
    said = next((line for line in lines if line not in papers), "")
    return f'<p class="tpt-about">{escape(said)}.{"".join(links)}</p>'


def answers_html(look: Look) -> str:
    """The answers before and after, the most probable classes side by side, and the time."""
    one, other = int(look.before.argmax()), int(look.after.argmax())
    remark = ", the same answer" if one == other else ", a different answer"
    cards = _card("before", "before", look.class_names[one], f"{100 * look.before[one]:.1f} %")
    cards += _card("after", f"after {look.method}", look.class_names[other], f"{100 * look.after[other]:.1f} %{remark}")
    rows = "".join(_row(look, k, "answer" if k == other else "") for k in shown_classes(look))
    times = {"total": sum(look.seconds.values()), **look.seconds}
    cost = "".join(f"<span>{stage} <b>{seconds:.2f} s</b></span>" for stage, seconds in times.items())
    head = "<tr><th></th><th colspan=2>before</th><th colspan=2>after</th><th></th></tr>"
    bars = f'<table class="tpt-bars">{head}{rows}</table>'
    return f'<div class="tpt-answers">{cards}</div>{bars}<div class="tpt-cost">{cost}</div>'


def shown_classes(look: Look) -> list[int]:
    """The most probable classes before or after, sorted by their probability after."""
    found = {int(k) for p in (look.before, look.after) for k in np.argsort(-p, kind="stable")[:TOP]}
    return sorted(found, key=lambda k: -float(look.after[k]))


def _card(kind: str, when: str, what: str, sure: str) -> str:
    texts = {"when": when, "what": what, "sure": sure}
    lines = "".join(f'<div class="{name}">{escape(text)}</div>' for name, text in texts.items())
    return f'<div class="tpt-card {kind}">{lines}</div>'


def _row(look: Look, k: int, kind: str) -> str:
    before, after = 100 * float(look.before[k]), 100 * float(look.after[k])
    bars = "".join(
        f'<td><div class="tpt-bar {when}"><i style="width:{value:.2f}%"></i></div></td>'
        f'<td class="number">{value:.1f} %</td>'
        for when, value in (("before", before), ("after", after))
    )
    name, change = escape(look.class_names[k]), signed(after - before, 1).replace("-", "\N{MINUS SIGN}")
    return f'<tr class="{kind}"><td class="name">{name}</td>{bars}<td class="change">{change}</td></tr>'


def views_html(look: Look) -> str:
    """The views in order, the selected ones framed."""
    views, chosen = look.views, set(look.views.selected)
    tiles = "".join(_tile(views, view, "selected" if view in chosen else "other") for view in views.order)
    said = f"{len(chosen)} of {len(views.order)} views selected (framed). Below each view: {escape(views.value_name)}."
    return f'<p class="tpt-note">{said}</p><div class="tpt-views">{tiles}</div>'


def _tile(views: PictureViews, view: int, kind: str) -> str:
    name, mark = ("the picture", " · picture") if view == 0 else (f"view {view}", "")
    image = Image.fromarray(views.pixels[view])
    image.thumbnail((SIDE, SIDE))  # only makes it smaller
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    source = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    picture = f'<img alt="{name}" title="{name}" src="{source}">'
    return f'<figure class="{kind}">{picture}{views.values[view]:.2f}{mark}</figure>'
