"""A model, dense or pruned, as a file that runs without it, checked before it is handed over."""

import copy
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.backbones.registry import adapt, has_head
from vidprune.commands.evaluate import model_digest
from vidprune.demo.clips import CLASSES, render
from vidprune.environment import environment
from vidprune.exporting.archives import write_archive, write_compiled
from vidprune.exporting.checking import compare
from vidprune.exporting.onnx import OPSET, OPSETS, check_onnx, write_onnx
from vidprune.exporting.program import Program, trace
from vidprune.exporting.record import (
    ENDINGS,
    FORMATS,
    Check,
    ExportRecord,
    Format,
    Stamp,
    is_ours,
    record_path,
    stamp,
    weights_path,
)
from vidprune.exporting.running import load_exported
from vidprune.exporting.tensorrt import obstacles
from vidprune.holding import LOCK, held
from vidprune.inference import normalisation_of
from vidprune.macs import costs
from vidprune.prepare import class_names_of
from vidprune.reducers.spec import describe
from vidprune.video import Protocol, UnreadableVideo, cut_views, normalise, read_views
from vidprune.video.decode import Frames
from vidprune.video.resize import resize_short_side

# Clips that are drawn where no videos are given.
_DRAWN, _SEED = 4, 820_000_000
_UNWRITTEN = Stamp(sha256="", size_bytes=0)
_UNCHECKED = Check(
    videos=(),
    same_kept=0,
    near_ties=0,
    unjudged=0,
    largest_difference=0.0,
    same_class=None,
    kl_nats=None,
    same_kept_together=None,
    difference_together=None,
)


_NEW_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Exporting:
    """How a model is exported: as which of `FORMATS`, in which precision (a torch dtype), for
    `batch` clips at once (None: any number); `opset` of ONNX, and there `quantize`: "int8" for
    linear layers whose weights are rounded to 8 bits, and computed with in float32.

    Raises ValueError for what cannot be.
    """

    format: Format
    dtype: torch.dtype = torch.float32
    batch: int | None = None
    opset: int = OPSET
    quantize: str | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format={self.format!r} is not one of {', '.join(FORMATS)}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"batch_size={self.batch} must be at least 1")
        if self.opset not in OPSETS:
            raise ValueError(f"opset={self.opset} is not one of {', '.join(map(str, OPSETS))}")
        if self.quantize is not None and (self.quantize != "int8" or self.format != "onnx"):
            raise ValueError(
                f"quantize={self.quantize!r} is not offered for format={self.format!r}; onnx has "
                "int8"
            )
        if self.quantize is not None and self.dtype != torch.float32:
            raise ValueError("quantize rounds a model in float32; leave dtype out")
        if self.format == "onnx" and self.dtype == torch.bfloat16:
            raise ValueError(
                "dtype=bf16 is not computed by ONNX Runtime; choose fp16 or fp32, or format=torch"
            )


def export(
    model: PreTrainedModel,
    output: Path,
    how: Exporting,
    *,
    protocol: Protocol,
    checkpoint: str,
    videos: Sequence[Path] = (),
    command: str = "",
) -> ExportRecord:
    """Write a model in float32, with the reducer that it has, to `output`, and a record beside it.

    The file is first run on a clip of each of `videos` (without any, on some that are drawn) and
    compared with the model; see `exporting.checking`. Only then it takes its place: what was there
    stays until then, and where anything fails.

    Raises ValueError for what cannot be exported so and where no video can be read, ExportError
    where the file does not do what the model does, and RuntimeError where packages or a compiler
    are missing. A video that cannot be read is left out, and named in the record.
    """
    _check_output(output, how)
    # Before anything is decoded: refuses what has no one graph.
    costs(model)
    clips, unreadable = _clips(model, protocol, videos)
    # A copy: rounded weights do not come back, and the model is what is compared with.
    given = model if how.dtype == model.dtype else copy.deepcopy(model).to(how.dtype)
    program = trace(given, batch=how.batch)
    record = _record(model, how, program, protocol, checkpoint, command)
    with _workplace(output) as folder:
        made = folder / output.name
        _write(program, made, how)
        weights = weights_path(made)
        beside = stamp(weights) if weights.is_file() else None
        record = replace(record, model_file=stamp(made), weights_file=beside)
        _keep(record, made)
        check = compare(model, load_exported(made, device=model.device), clips)
        found = obstacles(made) if how.format == "onnx" else None
        record = replace(record, check=check, unreadable=unreadable, obstacles=found)
        _keep(record, made)
        _hand_over(made, output)
    return record


@contextmanager
def _workplace(output: Path) -> Iterator[Path]:
    """A folder beside the output, in which it is made; what killed exports of it have left there is
    swept."""
    prefix = f".{output.name}."
    output.parent.mkdir(parents=True, exist_ok=True)
    for folder in output.parent.glob(f"{escape(prefix)}*/"):
        # Whoever is at work there holds it, but for the first moment.
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _NEW_SECONDS:
                with held(folder):
                    shutil.rmtree(folder, ignore_errors=True)
    with TemporaryDirectory(dir=output.parent, prefix=prefix) as made, held(Path(made)):
        yield Path(made)


def _check_output(output: Path, how: Exporting) -> None:
    """Refuse what could not be written or told apart, before the minutes that it takes."""
    ending = ENDINGS[how.format]
    if output.suffix != ending:
        raise ValueError(
            f"output={str(output)!r} must end in {ending}, as {how.format} has it; name it so"
        )
    for file in (output, record_path(output), weights_path(output)):
        if file.is_dir():
            raise ValueError(
                f"output={str(output)!r} writes {file.name}, which is a folder; name another file"
            )
    for parent in output.absolute().parents:
        if parent.exists() and not parent.is_dir():
            raise ValueError(f"output={str(output)!r} lies in {parent}, which is no folder")
    _check_replaced(output)
    if how.format == "onnx":
        check_onnx()


def _check_replaced(output: Path) -> None:
    """Refuse to replace a record or weights that no export wrote."""
    record, weights = record_path(output), weights_path(output)
    ours = record.is_file() and is_ours(record)
    strange = record if record.is_file() and not ours else None
    if weights.exists() and not ours:
        strange = weights
    if strange is not None:
        raise ValueError(
            f"output={str(output)!r} would replace {strange}, which vidprune export has not "
            "written; move it, or name another file"
        )


def _clips(
    model: PreTrainedModel, protocol: Protocol, videos: Sequence[Path]
) -> tuple[dict[str, Tensor], tuple[dict[str, str], ...]]:
    """The first view of each video, or of some that are drawn, by name: (T, 3, S, S) normalised;
    and the videos that cannot be read."""
    views, unreadable = {}, []
    for path in videos:
        try:
            views[str(path)] = read_views(path, protocol).pixels[0]
        except UnreadableVideo as error:
            unreadable.append({"path": str(path), "reason": error.reason})
    if videos and not views:
        raise ValueError(f"none of the videos can be read, such as {videos[0]}; give others")
    if not videos:
        views = {f"drawn: {CLASSES[motion]}": _drawn(motion, protocol) for motion in range(_DRAWN)}
    own = normalisation_of(model)
    return {name: normalise(view, own) for name, view in views.items()}, tuple(unreadable)


def _drawn(motion: int, protocol: Protocol) -> Tensor:
    frames = render(motion, _SEED + motion).frames
    images = {
        number: resize_short_side(frame, protocol.size) for number, frame in enumerate(frames)
    }
    return cut_views(Frames(len(frames), images), protocol)[0]


def _write(program: Program, path: Path, how: Exporting) -> None:
    if how.format == "onnx":
        write_onnx(program, path, opset=how.opset, quantize=how.quantize)
    elif how.format == "torch":
        write_archive(program, path)
    else:
        write_compiled(program, path)


def _record(
    model: PreTrainedModel,
    how: Exporting,
    program: Program,
    protocol: Protocol,
    checkpoint: str,
    command: str,
) -> ExportRecord:
    normalisation, taken = normalisation_of(model), costs(model)
    names = enumerate(class_names_of(model)) if has_head(model) else ()
    return ExportRecord(
        format=how.format,
        model_file=_UNWRITTEN,
        weights_file=None,
        checkpoint=checkpoint,
        model=model_digest(model),
        reducer=describe(getattr(model, "reducer", None)),
        dtype=str(how.dtype).removeprefix("torch."),
        quantized=how.quantize,
        device=model.device.type,
        opset=how.opset if how.format == "onnx" else None,
        obstacles=None,
        batch=how.batch,
        clip_shape=adapt(model).clip_shape,
        inputs=program.inputs,
        outputs=program.outputs,
        image_mean=normalisation.mean,
        image_std=normalisation.std,
        protocol=asdict(protocol),
        classes=tuple(str(number) if name is None else name for number, name in names),
        gmacs_per_view=taken.gmacs_per_view,
        gmacs_dense=taken.gmacs_dense,
        config=json.loads(model.config.to_json_string(use_diff=False)),
        check=_UNCHECKED,
        environment=environment(model.device),
        command=command,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _keep(record: ExportRecord, model: Path) -> None:
    record_path(model).write_text(record.to_json(), encoding="utf-8")


def _hand_over(made: Path, output: Path) -> None:
    """Put a model with all that belongs to it in its place; its record comes last, without which
    the rest is not taken for a model."""
    for stale in (record_path(output), weights_path(output)):
        stale.unlink(missing_ok=True)
    last = record_path(made)
    files = (file for file in made.parent.iterdir() if file.name != LOCK)
    for file in sorted(files, key=lambda file: file == last):
        os.replace(file, output.parent / file.name)
