"""The page, and the server that gives it to this machine alone."""

from __future__ import annotations

import functools
import logging
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tpt.cli.compose import options
from tpt.cli.demo.examples import first_names, write_drawings
from tpt.cli.demo.look import Looker
from tpt.cli.demo.page import CSS, NOTHING_YET, answers_html, views_html
from tpt.clip.model import CLIP
from tpt.data.pictures import class_list
from tpt.errors import UserError

HOST = "127.0.0.1"
MOST_VIEWS = 128
MOST_UPLOAD = "64mb"
FONTS = ("ui-sans-serif", "system-ui", "sans-serif"), ("ui-monospace", "Consolas", "monospace")
# A browser then loads nothing from elsewhere, whatever the page or a later version of gradio names.
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob:; frame-ancestors 'self'; form-action 'self'"
)
SILENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
TITLE = "Test-time prompt tuning, one picture at a time"
ABOUT = (
    "A picture is looked at in many views. The method trusts the views that the model is surest of, adapts to them, "
    "answers, and forgets."
)


def make_app(clip: CLIP, folder: Path, method: str = "tpt", names: list[str] | None = None) -> Any:
    """The application, for a server such as uvicorn.

    Args:
        clip: the backbone.
        folder: for pictures that are dropped on the page, and the bundled drawings.
        method: that is chosen at first.
        names: class names that stand there at first; None takes some of the bundled ones.

    Raises:
        UserError: gradio is not installed.
    """
    os.environ.update(SILENT | {"GRADIO_TEMP_DIR": str(folder / "pictures")})
    try:
        import gradio as gr  # noqa: PLC0415 -- an extra
        from fastapi import FastAPI  # noqa: PLC0415 -- comes with it
        from starlette.middleware.trustedhost import TrustedHostMiddleware  # noqa: PLC0415 -- likewise
    except ImportError as error:
        raise UserError(
            f"Expected gradio for the page, but {error}; install it: pip install 'test-time-prompt-tuning[demo]'."
        ) from error
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = FastAPI(openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])  # no other site may pose as this one
    app.middleware("http")(_with_policy)
    theme = gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=FONTS[0], font_mono=FONTS[1])
    return gr.mount_gradio_app(
        app,
        make_blocks(Looker(clip), write_drawings(folder / "drawings"), method, names or first_names()),
        path="/",
        server_name=HOST,
        theme=theme,
        css=CSS,
        footer_links=[],
        max_file_size=MOST_UPLOAD,
        allowed_paths=[str(folder)],
        ssr_mode=False,
    )


async def _with_policy(request: Any, call_next: Callable[[Any], Any]) -> Any:
    response = await call_next(request)
    response.headers["Content-Security-Policy"] = POLICY
    return response


def make_blocks(looker: Looker, drawings: list[Path], method: str, names: list[str]) -> Any:
    """The page."""
    import gradio as gr  # noqa: PLC0415 -- an extra

    backbone = looker.clip.name
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        gr.Markdown(f"# {TITLE}\n{ABOUT} Backbone: **{backbone}**.")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                picture = gr.Image(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Picture", height=240
                )
                gr.Examples(
                    [[str(path)] for path in drawings],
                    [picture],
                    label="or a drawing of a vendor that the bundled model never saw",
                    examples_per_page=len(drawings),
                )
                classes = gr.Textbox("\n".join(names), lines=6, max_lines=6, label="Class names, one a line")
                with gr.Row():
                    chosen = gr.Dropdown(options("method"), value=method, label="Method", min_width=120)
                    views = gr.Slider(1, MOST_VIEWS, value=64, step=1, label="Views", min_width=160)
                settings = gr.Textbox(
                    label="Settings",
                    info="as on the command line; empty: those of the method's paper",
                    placeholder="method.steps=2",
                )
                go = gr.Button("Look", variant="primary")
            with gr.Column(scale=3, min_width=420):
                answers = gr.HTML(NOTHING_YET, elem_id="answers")
                seen = gr.HTML("", elem_id="views")
        inputs, outputs = [picture, classes, chosen, views, settings], [answers, seen]
        look = functools.partial(show, looker)
        for event in (go.click, picture.upload, settings.submit):
            event(look, inputs, outputs, concurrency_limit=1, api_visibility="private")
    return blocks


def show(
    looker: Looker, picture: str | None, classes: str, method: str, num_views: float, settings: str
) -> tuple[str, str]:
    """Both parts of the page for what was asked; a user's mistake is shown in its own words."""
    import gradio as gr  # noqa: PLC0415 -- an extra

    if not picture:
        raise gr.Error("Expected a picture, got none; drop one, or choose a drawing.", print_exception=False)
    try:
        lines = classes.splitlines()
        names = class_list(classes if len(lines) == 1 and "," in classes else [line.strip() for line in lines])
        look = looker(picture, names, method, int(num_views), split_settings(settings))
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from error
    return answers_html(look), views_html(look)


def split_settings(text: str) -> tuple[str, ...]:
    """The settings of a line, as a shell would split them.

    Raises:
        UserError: a quote is not closed.
    """
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UserError(f"Expected settings such as method.steps=2, got {text!r} ({error}).") from error
