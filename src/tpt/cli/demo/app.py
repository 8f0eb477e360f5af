"""The web page, and the application that serves it."""

from __future__ import annotations

import functools
import logging
import os
import re
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le

from tpt.cli.compose import method_class
from tpt.cli.demo.controls import CONTROLS, MOST_NAMES, MOST_VIEWS, chosen_method, chosen_names, chosen_values, default
from tpt.cli.demo.examples import first_names, write_drawings
from tpt.cli.demo.look import Looker
from tpt.cli.demo.page import NOTHING_YET, about_html, answers_html, problem_html, views_html
from tpt.cli.errors import in_words_of
from tpt.cli.options import options
from tpt.clip.model import CLIP
from tpt.errors import BadImageError, UserError, refuse

log = logging.getLogger(__name__)

WAITING = 16  # longest queue of requests, which are answered one by one
FONTS = ("ui-sans-serif", "system-ui", "sans-serif"), ("ui-monospace", "Consolas", "monospace")
SILENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}
TITLE = "Test-time prompt tuning, one picture at a time"
ABOUT = (
    "The method makes many views of a picture, keeps those that the model is most confident about, adapts to them, "
    "answers, and resets."
)
# Scrolls only if the answer or the problem is out of sight; after the page has drawn it.
SHOW_ANSWER = "() => {setTimeout(() => document.getElementById('answers').scrollIntoView({block: 'nearest'}), 100)}"
WORDS = ((r"\bdata\.class_names\b", "Class names"),)  # what a setting is called on the page
RAW: Any = {"preprocess": False, "api_visibility": "private"}  # functions get the values of a request as they are
NO_PICTURE = "No picture yet. Drop one here, or click a drawing."
BUG = "Internal error (your settings are fine). See the terminal that runs tpt-demo for details."


def make_app(clip: CLIP, folder: Path, method: str = "tpt", names: list[str] | None = None, host: str = "") -> Any:
    """The application, for a server such as uvicorn.

    Args:
        clip: the backbone.
        folder: for uploaded pictures and the bundled drawings; requests can reach no other file.
        method: selected initially.
        names: initial class names; None takes some of the bundled ones.
        host: the name or address that the server listens on.

    Raises:
        UserError: gradio is not installed.
    """
    uploads = folder / "pictures"
    os.environ.update(SILENT | {"GRADIO_TEMP_DIR": str(uploads)})
    try:
        import gradio as gr  # noqa: PLC0415 -- an extra
        from fastapi import FastAPI  # noqa: PLC0415 -- comes with it

        from tpt.cli.demo.door import MOST_UPLOAD, Door  # noqa: PLC0415 -- likewise
    except ImportError as error:
        raise UserError(
            f"The page needs gradio ({error}). Install it: pip install 'test-time-prompt-tuning[demo]'."
        ) from error
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = FastAPI(openapi_url=None)
    app.add_middleware(Door, folder=folder, uploads=uploads, host=host)
    theme = gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=FONTS[0], font_mono=FONTS[1])
    return gr.mount_gradio_app(
        app,
        make_blocks(Looker(clip), write_drawings(folder / "drawings"), method, names or first_names()),
        path="/",
        server_name=host,
        theme=theme,
        css_paths=Path(__file__).with_name("page.css"),
        footer_links=[],
        max_file_size=MOST_UPLOAD,
        show_error=False,
        ssr_mode=False,
    )


def make_blocks(looker: Looker, drawings: list[Path], method: str, names: list[str]) -> Any:
    """The page.

    Its functions get the raw values of a request (`preprocess=False`) and check them all.
    """
    import gradio as gr  # noqa: PLC0415 -- an extra

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        gr.Markdown(f"# {TITLE}\n{ABOUT} Backbone: **{looker.clip.name}**.")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                picture = gr.Image(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Picture", height=200
                )
                examples = gr.Examples(
                    [[str(path)] for path in drawings],
                    [picture],
                    label="Or a drawing in a style new to the bundled model",
                    examples_per_page=len(drawings),
                    elem_id="drawings",
                )
                classes = gr.Textbox(
                    "\n".join(names), lines=4, max_lines=4, max_length=MOST_NAMES, label="Class names, one per line"
                )
                alone = [option for option in options("method") if method_class(option).kind == "episodic"]
                chosen = gr.Dropdown(alone, value=method, label="Method")
                described = gr.HTML(about_html(method))
                go = gr.Button("Classify", variant="primary")
                with gr.Accordion("Settings", open=False):
                    views = gr.Slider(1, MOST_VIEWS, value=64, step=1, label="Views")
                    with gr.Row():
                        widgets = [_widget(gr, control, method) for control in CONTROLS]
            with gr.Column(scale=3, min_width=420):
                answers = gr.HTML(NOTHING_YET, elem_id="answers")
                seen = gr.HTML("", elem_id="views")
        inputs, outputs = [picture, classes, chosen, views, *widgets], [answers, seen]
        asked = {"fn": functools.partial(show, looker), "inputs": inputs, "outputs": outputs, "concurrency_limit": 1}
        for event in (
            gr.on([go.click, picture.upload], **asked, **RAW),
            examples.load_input_event.then(**asked, **RAW),
        ):
            event.then(None, js=SHOW_ANSWER, queue=False)
        picture.clear(lambda: (NOTHING_YET, ""), None, outputs, api_visibility="private")
        chosen.change(update_controls, [chosen], [described, *widgets], show_progress="hidden", **RAW)
    return blocks.queue(max_size=WAITING)


def _widget(gr: Any, control: Any, method: str) -> Any:
    has, value = default(control, method)
    kind = getattr(gr, control.kind)
    return kind(value=value, label=control.label, info=control.info, visible=has, min_width=140, **control.limits)


def update_controls(method: Any) -> list[Any]:
    """The description of a method, and widgets with its default settings."""
    import gradio as gr  # noqa: PLC0415 -- an extra

    try:
        said, found = about_html(chosen_method(method)), [default(control, method) for control in CONTROLS]
    except UserError as error:
        return [problem_html(str(error)), *[gr.skip()] * len(CONTROLS)]
    return [said, *(gr.update(visible=has, value=value) for has, value in found)]


def show(looker: Looker, picture: Any, classes: Any, method: Any, views: Any, *values: Any) -> tuple[str, str]:
    """Both parts of the page for a request; an error message replaces both, so that no old answer stays."""
    try:
        if not isinstance(picture, dict):
            return problem_html(NO_PICTURE), ""
        names, method = chosen_names(classes), chosen_method(method)
        number = refuse("Views", Annotated[int, Ge(1), Le(MOST_VIEWS)], views)
        look = looker(picture["path"], names, method, number, chosen_values(method, values))
    except BadImageError as error:
        # Leaves out the temporary folder, and settings that the page does not offer.
        said = str(error).replace(f"{Path(picture['path']).parent}/", "")
        return problem_html(re.sub(r",? or pass\s+data\.on_bad_image.*", ".", said)), ""
    except UserError as error:
        return problem_html(str(in_words_of(error, WORDS))), ""
    except Exception:
        log.exception("A request failed.")
        return problem_html(BUG), ""
    return answers_html(look), views_html(look)
