"""The page itself, made of Gradio's parts."""

import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from vidprune.app.answers import Answer, Clip, Limits, answer, model_named, read
from vidprune.app.choices import fitting, largest_r
from vidprune.backbones.registry import adapt

_HINT = (
    "Drop a video. White places were dropped; a place with a dot was merged into the framed one."
)
# Whoever finds as many waiting is told to come back; files are read beside the model.
_QUEUE, _READERS = 32, 4
# How often it is looked for what is older, which goes.
_KEPT_SECONDS = (600, 3600)


def serve(
    models: Sequence[str],
    *,
    host: str,
    port: int | None,
    limits: Limits,
    tell: Callable[[str], object],
) -> None:
    """Serve the page until interrupted; `tell` hears its address once it is up.

    `models`: what can be chosen, as `load` takes it. All are loaded first, so that what is wrong
    with one is said before anybody waits. Whatever is uploaded or made lies in a temporary folder
    that goes with the server. Raises RuntimeError without Gradio, ValueError for a port that
    cannot be had.
    """
    _check_address(host, port)
    for model in models:
        model_named(model)
    with _temporary_folder() as folder:
        gradio = _gradio()
        blocks = _blocks(gradio, models, limits, folder).queue(max_size=_QUEUE)
        try:
            _, address, _ = blocks.launch(
                server_name=host,
                server_port=port,
                max_file_size=limits.upload_mib * 2**20,
                theme=_theme(gradio),
                prevent_thread_lock=True,
                show_error=True,
                quiet=True,
                ssr_mode=False,
                footer_links=[],
            )
        except OSError as error:
            raise ValueError(
                f"port={port} of host={host!r} cannot be had ({error}); name another"
            ) from error
        tell(address)
        try:
            blocks.block_thread()
        finally:
            blocks.close()


def _check_address(host: str, port: int | None) -> None:
    if port is not None and not 1 <= port <= 65535:
        raise ValueError(f"port={port} must be 1 to 65535")
    try:
        family, kind, *_, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.bind(address)
    except OSError as error:
        raise ValueError(f"host={host!r} is no address of this machine ({error})") from error


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Where Gradio, and matplotlib, which it loads, leave all that they make; neither asks the
    network for anything."""
    with tempfile.TemporaryDirectory(prefix="vidprune-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        os.environ.setdefault("MPLCONFIGDIR", folder)
        yield Path(folder)


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise RuntimeError("the page needs Gradio; pip install 'vidprune[app]'") from error
    return gradio


def _theme(gradio: Any) -> Any:
    """Of fonts that every system has: others would be fetched."""
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return gradio.themes.Default(primary_hue="blue", **fonts)


def _blocks(gradio: Any, models: Sequence[str], limits: Limits, folder: Path) -> Any:
    with gradio.Blocks(
        title="vidprune", analytics_enabled=False, delete_cache=_KEPT_SECONDS
    ) as blocks:
        gradio.Markdown(f"## vidprune: which tokens go\n{_HINT}")
        with gradio.Row():
            with gradio.Column(scale=1, min_width=320):
                asked = _asked(gradio, models)
            with gradio.Column(scale=2, min_width=480):
                figures, dense, pruned = _told(gradio)
        picture, page = _drawn(gradio)
        _wire(gradio, asked, [picture, dense, pruned, figures, page], limits, folder)
    return blocks


class _Asked(NamedTuple):
    """What a visitor gives and chooses."""

    upload: Any
    model: Any
    reducer: Any
    r: Any


def _asked(gradio: Any, models: Sequence[str]) -> _Asked:
    upload = gradio.File(label="video", file_types=["video"], elem_id="upload")
    model = gradio.Dropdown(list(models), value=models[0], label="model", elem_id="model")
    return _Asked(upload, model, *_settings(gradio, models[0]))


def _told(gradio: Any) -> tuple[Any, Any, Any]:
    """Figures, and the classes dense and pruned."""
    figures = gradio.HTML(elem_id="figures")
    with gradio.Row():
        dense = gradio.Label(label="dense", num_top_classes=5, elem_id="dense")
        pruned = gradio.Label(label="pruned", num_top_classes=5, elem_id="pruned")
    return figures, dense, pruned


def _drawn(gradio: Any) -> tuple[Any, Any]:
    """The picture, and all of it to take away."""
    picture = gradio.Image(
        show_label=False,
        type="pil",
        format="png",
        interactive=False,
        buttons=["download", "fullscreen"],
        elem_id="picture",
        alt_text="the clip, GradNorm, and what is left after each stage",
    )
    page = gradio.DownloadButton("take it away as a page", visible=False, elem_id="page")
    return picture, page


def _wire(gradio: Any, asked: _Asked, shown: list[Any], limits: Limits, folder: Path) -> None:
    """What follows from what a visitor does."""
    clip = gradio.State()
    nothing, forgotten = _nothing(gradio), [clip, *shown]
    reading = {"concurrency_limit": _READERS, "concurrency_id": "reading"}
    # One at a time: two forwards would spoil each other's times.
    showing = {
        "fn": _showing(gradio, folder),
        "inputs": [clip, asked.reducer, asked.r],
        "outputs": shown,
        "show_progress_on": [shown[0]],
        "concurrency_limit": 1,
        "concurrency_id": "running",
    }

    def load(path: str | None, source: str) -> Clip | None:
        with _said(gradio):
            return None if path is None else read(Path(path), source, limits)

    def settle(source: str) -> Any:
        return _settings(gradio, source)

    def limit(source: str, name: str) -> Any:
        return _slider(gradio, source, name)

    asked.upload.clear(nothing, None, forgotten)
    # What was shown of another clip goes first, also where the new one cannot be read.
    dropped = asked.upload.upload(nothing, None, forgotten)
    chosen = asked.model.input(nothing, None, forgotten)
    settled = chosen.success(settle, asked.model, [asked.reducer, asked.r])
    for ready in (dropped, settled):
        ready.success(load, [asked.upload, asked.model], clip, **reading).success(**showing)
    asked.reducer.input(limit, [asked.model, asked.reducer], asked.r).success(**showing)
    asked.r.input(**showing, trigger_mode="always_last")


def _settings(gradio: Any, source: str) -> tuple[Any, Any]:
    """A model's reducers, and how far r goes for the first of them."""
    names = list(fitting(adapt(model_named(source))))
    reducer = gradio.Dropdown(names, value=names[0], label="reducer", elem_id="reducer")
    return reducer, _slider(gradio, source, names[0])


def _slider(gradio: Any, source: str, name: str) -> Any:
    shape = adapt(model_named(source))
    most = largest_r(shape, fitting(shape)[name])
    return gradio.Slider(0, most, value=most // 3, step=1, label="r", elem_id="r")


def _showing(gradio: Any, folder: Path) -> Callable[..., tuple[Any, ...]]:
    def show(clip: Clip | None, name: str, r: int) -> tuple[Any, ...]:
        spec = None if clip is None else fitting(adapt(model_named(clip.model))).get(name)
        # (Of a model that was just left, the reducer may still be the other's.)
        if clip is None or spec is None:
            return _nothing(gradio)()[1:]
        with _said(gradio):
            return _filled(gradio, answer(clip, spec, int(r)), folder)

    return show


def _nothing(gradio: Any) -> Callable[[], tuple[Any, ...]]:
    """No clip, and nothing of it to show."""
    return lambda: (None, None, None, None, None, gradio.DownloadButton(visible=False))


def _filled(gradio: Any, found: Answer, folder: Path) -> tuple[Any, ...]:
    with tempfile.NamedTemporaryFile(
        "w", dir=folder, prefix="which-tokens-go-", suffix=".html", delete=False, encoding="utf-8"
    ) as file:
        file.write(found.html)
    button = gradio.DownloadButton(value=file.name, visible=True)
    dense, pruned = found.dense or None, found.pruned or None
    return found.picture, dense, pruned, _table(found.figures), button


def _table(figures: Sequence[tuple[str, str, str]]) -> str:
    rows = [_row("th", "", "dense", "pruned"), *(_row("td", *row) for row in figures)]
    return f"<table style='width: 100%'>{''.join(rows)}</table>"


def _row(kind: str, *cells: str) -> str:
    return f"<tr>{''.join(f'<{kind}>{escape(cell)}</{kind}>' for cell in cells)}</tr>"


@contextmanager
def _said(gradio: Any) -> Iterator[None]:
    """What is wrong with an upload or a setting, as a message on the page."""
    try:
        yield
    except ValueError as error:
        raise gradio.Error(str(error), duration=None, print_exception=False) from error
