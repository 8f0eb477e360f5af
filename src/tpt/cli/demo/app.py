"""The web page, and the application that serves it.

A request can hold anything, whatever the widgets allow, so every value is checked here: it is plain (a number, a short
text, one of a few words), and is never read as a file, a configuration or a reference to one.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, Le
from pydantic import StringConstraints
from typing_extensions import Doc

from tpt.cli.compose import method_class, picture_method
from tpt.cli.demo.look import Looker
from tpt.cli.demo.page import NOTHING_YET, about_html, answers_html, problem_html, views_html
from tpt.cli.errors import NO_SKIPPING, in_words_of
from tpt.cli.options import options, values_of
from tpt.clip.model import CLIP
from tpt.data.bundled import class_names, emoji_shift
from tpt.errors import Share, UserError, refuse

log = logging.getLogger(__name__)

WAITING = 16  # longest queue of requests, which are answered one by one
FONTS = ("ui-sans-serif", "system-ui", "sans-serif"), ("ui-monospace", "Consolas", "monospace")
NO_GRADIO = dict.fromkeys(("GRADIO_ANALYTICS_ENABLED", "GRADIO_RUN_HISTORY"), "False")
SILENT = {**NO_GRADIO, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
TITLE = "Test-time prompt tuning, one picture at a time"
ABOUT = (
    "The method makes many views of a picture, keeps those that the model is most confident about, adapts to them, "
    "answers, and resets."
)
# Scrolls only if the answer or the problem is out of sight; after the page has drawn it.
SHOW_ANSWER = "() => {setTimeout(() => document.getElementById('answers').scrollIntoView({block: 'nearest'}), 100)}"
WORDS = ((r"\bdata\.class_names\b", "Class names"), NO_SKIPPING)  # what a setting is called on the page
RAW: Any = {"preprocess": False, "api_visibility": "private"}  # functions get the values of a request as they are
EVERY = 8  # every eighth bundled name: enough to be hard, few enough to read
# Domain and class; the paper's settings correct the first five answers, break the sixth, and keep the others.
DRAWINGS = (
    ("emojione", "fountain pen"),
    ("twemoji", "shortcake"),
    ("fxemoji", "suspension railway"),
    ("emojione_monotone", "prince"),
    ("emojione", "detective"),
    ("emojione", "soft ice cream"),
    ("twemoji", "shark"),
    ("fxemoji", "cat"),
    ("emojione_monotone", "umbrella with rain drops"),
    ("twemoji", "doughnut"),
)
MOST_VIEWS = 128
MOST_STEPS = 20
MOST_WORDS = 200  # characters of context words
MOST_NAMES = 100_000  # characters of class names; the thousand of ImageNet have some 14,000
WORDS_ALONE = "the context words"
TEMPLATES = (WORDS_ALONE, "imagenet_7", "imagenet_80")
Steps = Annotated[int, Ge(0), Le(MOST_STEPS)]
Words = Annotated[str, StringConstraints(max_length=MOST_WORDS), Doc(f"a text of at most {MOST_WORDS} characters")]
Names = Annotated[str, StringConstraints(max_length=MOST_NAMES), Doc(f"a text of at most {MOST_NAMES} characters")]


class Control(NamedTuple):
    """A setting that the page offers."""

    key: str
    hint: Any  # annotation that its values must satisfy
    kind: str  # of the widget, a class of gradio
    label: str
    info: str
    limits: dict[str, Any]  # further arguments of the widget


_NUMBER: dict[str, Any] = {"minimum": 0, "maximum": 1, "placeholder": "the paper's"}
_STEPS = {**_NUMBER, "maximum": MOST_STEPS, "precision": 0}
_SHARE = "fraction of the views, the most confident ones"
_WORDS = "[CLS] marks where the class name goes; the default is the end"
_TEMPLATES = "the context words, or an ensemble of templates"
_OF_TEXT = {"max_lines": 1, "max_length": MOST_WORDS}
CONTROLS = (
    Control("method.steps", Steps, "Number", "Steps", "of the optimizer", _STEPS),
    Control("method.lr", Share, "Number", "Learning rate", "of the optimizer", {**_NUMBER, "step": 0.001}),
    Control("method.selection_p", Share, "Number", "Selected", _SHARE, {**_NUMBER, "step": 0.05}),
    Control("context.ctx_init", Words, "Textbox", "Context words", _WORDS, _OF_TEXT),
    Control("method.templates", Literal[TEMPLATES], "Dropdown", "Prompts", _TEMPLATES, {"choices": list(TEMPLATES)}),
)


def default(control: Control, method: str) -> tuple[bool, Any]:
    """Whether a method has the setting, and its initial value; None if the paper's value varies."""
    section, key = control.key.split(".")
    found = values_of(section, method if section == "method" else "words")
    value = None if found.get(key) == "paper" else found.get(key)
    return key in found, value or WORDS_ALONE if control.kind == "Dropdown" else value


def chosen_method(value: Any) -> str:
    """The value, if it is a method that adapts to each picture alone; otherwise raises a UserError."""
    picture_method(refuse("Method", Words, value), "the page")
    return str(value)


def chosen_names(value: Any) -> list[str]:
    """Class names as typed: one per line, or separated by commas on a single line; never read as a file name."""
    lines = [line.strip() for line in refuse("Class names", Names, value).splitlines() if line.strip()]
    return [part.strip() for part in lines[0].split(",")] if len(lines) == 1 and "," in lines[0] else lines


def chosen_values(method: str, values: Sequence[Any]) -> dict[str, Any]:
    """The settings of the filled-in `CONTROLS` that the method has; a UserError for a value outside its limits."""
    found: dict[str, Any] = {}
    for control, value in zip(CONTROLS, values, strict=True):
        if value is not None and default(control, method)[0]:
            checked = refuse(control.label, control.hint, value)
            found |= {control.key: checked} if checked != WORDS_ALONE else {}
    if "min_selected" in values_of("method", method):
        found["method.min_selected"] = 1  # so that a small share of few views keeps one instead of failing
    return found


def write_drawings(folder: Path) -> list[Path]:
    """Writes drawings in styles that the bundled model has never seen to files; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name.replace(' ', '_')}_{domain}.png" for domain, name in DRAWINGS]
    for path, (domain, name) in zip(paths, DRAWINGS, strict=True):
        dataset = emoji_shift(domain)
        path.write_bytes(dataset.content(dataset.labels().index(dataset.class_names.index(name))))
    return paths


def first_names() -> list[str]:
    """Initial class names, including those of the drawings."""
    return class_names()[::EVERY]


def make_app(clip: CLIP, folder: Path, method: str = "tpt", names: list[str] | None = None, host: str = "") -> Any:
    """The application for a server on `host`; requests reach only `folder`, with the drawings and uploaded pictures."""
    uploads = folder / "pictures"
    os.environ.update(SILENT | {"GRADIO_TEMP_DIR": str(uploads)})
    try:
        import gradio as gr  # noqa: PLC0415 -- an extra
        from fastapi import FastAPI  # noqa: PLC0415 -- comes with it

        from tpt.cli.demo.door import MOST_UPLOAD, Door  # noqa: PLC0415 -- likewise
    except ImportError as error:
        raise UserError(f"The page needs gradio ({error}); pip install 'test-time-prompt-tuning[demo]'.") from error
    logging.getLogger("httpx").setLevel(logging.WARNING)
    app = FastAPI(openapi_url=None)
    app.add_middleware(Door, folder=folder, uploads=uploads, host=host)
    theme = gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=FONTS[0], font_mono=FONTS[1])
    looks: Any = {"theme": theme, "css_paths": Path(__file__).with_name("page.css"), "footer_links": []}
    kept: Any = {"max_file_size": MOST_UPLOAD, "show_error": False, "ssr_mode": False}
    page = make_blocks(Looker(clip), write_drawings(folder / "drawings"), method, names or first_names())
    return gr.mount_gradio_app(app, page, path="/", server_name=host, **looks, **kept)


def make_blocks(looker: Looker, drawings: list[Path], method: str, names: list[str]) -> Any:
    """The page; its functions get the raw values of a request (`preprocess=False`) and check them all."""
    import gradio as gr  # noqa: PLC0415 -- an extra

    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        gr.Markdown(f"# {TITLE}\n{ABOUT} Backbone: **{looker.clip.name}**.")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                sources: Any = ["upload", "clipboard"]
                picture = gr.Image(type="filepath", image_mode=None, sources=sources, label="Picture", height=200)
                examples = gr.Examples(
                    [[str(path)] for path in drawings],
                    [picture],
                    label="Or a drawing in a style new to the bundled model",
                    examples_per_page=len(drawings),
                    elem_id="drawings",
                )
                limits: Any = {"lines": 4, "max_lines": 4, "max_length": MOST_NAMES}
                classes = gr.Textbox("\n".join(names), label="Class names, one per line", **limits)
                alone = [option for option in options("method") if method_class(option).kind == "episodic"]
                chosen = gr.Dropdown(alone, value=method, label="Method")
                described = gr.HTML(about_html(method))
                go = gr.Button("Classify", variant="primary")
                with gr.Accordion("Settings", open=False):
                    views = gr.Slider(1, MOST_VIEWS, value=64, step=1, label="Views")
                    with gr.Row():
                        widgets = _widgets(method)
            with gr.Column(scale=3, min_width=420):
                answers = gr.HTML(NOTHING_YET, elem_id="answers")
                seen = gr.HTML("", elem_id="views")
        inputs, outputs = [picture, classes, chosen, views, *widgets], [answers, seen]
        answer = functools.partial(answer_html, looker)
        for trigger in (functools.partial(gr.on, [go.click, picture.upload]), examples.load_input_event.then):
            asked = trigger(answer, inputs, outputs, concurrency_limit=1, **RAW)
            asked.then(None, js=SHOW_ANSWER, queue=False)
        picture.clear(lambda: (NOTHING_YET, ""), None, outputs, api_visibility="private")
        chosen.change(update_controls, [chosen], [described, *widgets], show_progress="hidden", **RAW)
    return blocks.queue(max_size=WAITING)


def _widgets(method: str) -> list[Any]:
    """The widgets with a method's default settings, of which those that it does not have are hidden."""
    import gradio as gr  # noqa: PLC0415 -- an extra

    made = []
    for control in CONTROLS:
        has, value = default(control, method)
        said = {"label": control.label, "info": control.info, **control.limits}
        made.append(getattr(gr, control.kind)(value=value, visible=has, min_width=140, **said))
    return made


def update_controls(method: Any) -> list[Any]:
    """The description of a method, and its widgets; an error message and no change if there is no such method."""
    import gradio as gr  # noqa: PLC0415 -- an extra

    try:
        return [about_html(chosen_method(method)), *_widgets(method)]
    except UserError as error:
        return [problem_html(str(error)), *[gr.skip()] * len(CONTROLS)]


def answer_html(looker: Looker, picture: Any, classes: Any, method: Any, views: Any, *values: Any) -> tuple[str, str]:
    """Both parts of the page for a request; an error message replaces both, so that no old answer stays."""
    if not isinstance(picture, dict):
        return problem_html("No picture yet. Drop one here, or click a drawing."), ""
    try:
        names, method = chosen_names(classes), chosen_method(method)
        number = refuse("Views", Annotated[int, Ge(1), Le(MOST_VIEWS)], views)
        look = looker(picture["path"], names, method, number, chosen_values(method, values))
    except UserError as error:
        temporary = f"{Path(str(picture.get('path'))).parent}/"
        return problem_html(str(in_words_of(error, WORDS)).replace(temporary, "")), ""
    except Exception:
        log.exception("A request failed.")
        return problem_html("Internal error (your settings are fine). See the terminal that runs tpt-demo."), ""
    return answers_html(look), views_html(look)
