"""An exported model that is run, where a model of transformers would be."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vidprune.backbones.hub import config_from
from vidprune.exporting.program import KEYS, LOGITS
from vidprune.exporting.record import (
    DTYPES,
    ExportRecord,
    check_files,
    located,
    read_record,
    record_path,
)
from vidprune.model import Trace
from vidprune.outputs import PrunedFeatures, PrunedOutput
from vidprune.reducers.base import Reducer
from vidprune.reducers.spec import parse

Run = Callable[[Sequence[Tensor]], list[Tensor]]

_DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPES}


class Exported(nn.Module):
    """A file of `vidprune export`, to be called as the model that it was made from.

    `config`, `reducer`, `dtype` and `device` are as a model's; `answer` names what of its output is
    the answer, `digest` names the file and how it is used, and `record` says all else.
    """

    def __init__(self, path: Path, record: ExportRecord, run: Run, device: torch.device) -> None:
        super().__init__()
        self.path, self.record, self.device = path, record, device
        self.config = _configuration(path, record)
        self.reducer: Reducer | None = parse(record.reducer)
        self.dtype = _DTYPES[record.dtype]
        self.answer = record.outputs[0]
        self._run = run

    @property
    def digest(self) -> str:
        """A short name for exactly this model; see `ExportRecord.digest`."""
        return self.record.digest

    def forward(
        self,
        pixel_values: Tensor,
        clip_keys: Tensor | None = None,
        *,
        return_trace: bool = False,
    ) -> PrunedOutput | PrunedFeatures:
        """Classify or embed clips (B, T, 3, H, W), normalised; arguments as of the model.

        Raises ValueError for another shape or dtype than it was exported for, and where a reducer
        draws and `clip_keys` (B,) int64 are not given.
        """
        _check_given(self.record, pixel_values)
        if KEYS in self.record.inputs and clip_keys is None:
            raise ValueError(
                f"{self.path.name} draws at random for every clip; give clip_keys, a whole number "
                "for each clip"
            )
        given = [pixel_values]
        if KEYS in self.record.inputs and clip_keys is not None:
            given.append(clip_keys)
        answer, *origin = self._run(given)
        trace = Trace((), tuple(origin)) if return_trace else None
        if self.answer == LOGITS:
            return PrunedOutput(logits=answer, trace=trace)
        return PrunedFeatures(pooler_output=answer, trace=trace)

    def to(self, *args: Any, **kwargs: Any) -> "Exported":
        """Itself, as it is and where it is. Raises ValueError for another device or dtype."""
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        if device is not None and device != self.device:
            raise ValueError(
                f"{self.path.name} is on {self.device} and cannot be moved; name the device when "
                "it is loaded"
            )
        if dtype is not None and dtype != self.dtype:
            raise ValueError(
                f"{self.path.name} computes in {_named(self.dtype)} and cannot be made "
                f"{_named(dtype)}; export it so"
            )
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Exported":
        # What `.half()`, `.cuda()` and their like come to.
        there = fn(torch.empty(0, dtype=self.dtype, device=self.device))
        return self.to(there.device, there.dtype)


def load_exported(path: str | Path, *, device: torch.device | None = None) -> Exported:
    """A file that `vidprune export` wrote, with the record beside it, ready to be called.

    `device`: where it runs; None for CUDA where there is any and the format can be put there, else
    the CPU. A compiled package runs on the kind of device that it was compiled for.

    Archives of torch hold code and pickled objects, and compiled packages machine code: load those
    of people you trust. ONNX files hold neither, and nothing else is loaded by their name.

    Raises FileNotFoundError, ValueError and RuntimeError where the file, its record or what runs it
    is missing or does not fit.
    """
    path = located(path)
    record = read_record(path)
    check_files(path, record)
    load = {"onnx": _onnx, "torch": _archive, "aoti": _compiled}[record.format]
    run, on = load(path, record, device)
    return Exported(path, record, run, on)


def _configuration(path: Path, record: ExportRecord) -> Any:
    """The model's, with what the record says in its own fields."""
    try:
        config = config_from(record.config, str(path))
    except Exception as error:
        raise ValueError(
            f"{record_path(path)} holds no configuration of a model: {error}; export it again"
        ) from error
    config.view_protocol = record.protocol
    config.image_mean, config.image_std = list(record.image_mean), list(record.image_std)
    if record.classes:
        named = enumerate(record.classes)
        config.id2label = {
            number: f"LABEL_{number}" if name == str(number) else name for number, name in named
        }
        config.label2id = {name: number for number, name in config.id2label.items()}
    return config


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _check_given(record: ExportRecord, pixel_values: Tensor) -> None:
    if not isinstance(pixel_values, Tensor) or _named(pixel_values.dtype) != record.dtype:
        given = getattr(pixel_values, "dtype", type(pixel_values).__name__)
        raise ValueError(
            f"pixel_values is of {str(given).removeprefix('torch.')}, and the exported model takes "
            f"a tensor of {record.dtype}; convert it"
        )
    batch, *shape = pixel_values.shape
    if tuple(shape) != record.clip_shape or record.batch not in (None, batch):
        wanted = ("any" if record.batch is None else record.batch, *record.clip_shape)
        raise ValueError(
            f"pixel_values has the shape {tuple(pixel_values.shape)}, and the exported model takes "
            f"({', '.join(map(str, wanted))}): batch, frames, channels, height, width"
        )


def _onnx(
    path: Path, record: ExportRecord, device: torch.device | None
) -> tuple[Run, torch.device]:
    """By ONNX Runtime."""
    from vidprune.exporting.onnx import check_onnx

    check_onnx()
    import onnxruntime

    providers = onnxruntime.get_available_providers()
    on_gpu = "CUDAExecutionProvider" in providers
    if device is not None and device.type == "cuda" and not on_gpu:
        raise ValueError(
            f"device={device} needs ONNX Runtime for GPUs; pip install onnxruntime-gpu in the "
            "place of onnxruntime, or run it on cpu"
        )
    if device is not None and device.type not in ("cpu", "cuda"):
        raise ValueError(f"device={device} is not one that ONNX Runtime is asked for; choose cpu")
    use_gpu = on_gpu and (device is None or device.type == "cuda")
    chosen: list[Any] = ["CPUExecutionProvider"]
    if use_gpu:
        chosen.insert(0, ("CUDAExecutionProvider", {"device_id": (device and device.index) or 0}))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Warnings of shapes that are worked out at run time are no news to anybody.
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=chosen)
    except Exception as error:
        raise ValueError(f"{path} is no graph that ONNX Runtime can run: {error}") from error

    def run(given: Sequence[Tensor]) -> list[Tensor]:
        named = {name: _array(each) for name, each in zip(record.inputs, given, strict=True)}
        found: list[Any] = session.run(list(record.outputs), named)
        return [torch.from_numpy(each) for each in found]

    # Arrays come and go by the CPU, wherever the session computes.
    return run, torch.device("cpu")


def _array(values: Tensor) -> np.ndarray[Any, Any]:
    return values.detach().cpu().contiguous().numpy()


def _archive(
    path: Path, record: ExportRecord, device: torch.device | None
) -> tuple[Run, torch.device]:
    """By torch, operation by operation."""
    exported = _read(path, lambda: torch.export.load(path))
    on = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if on.type != torch.device(record.device).type:
        from torch.export.passes import move_to_device_pass

        exported = move_to_device_pass(exported, on)
    module = exported.module()
    return lambda given: list(module(*given)), on


def _compiled(
    path: Path, record: ExportRecord, device: torch.device | None
) -> tuple[Run, torch.device]:
    """By the code that is in it."""
    on = torch.device(record.device)
    if device is not None and device.type != on.type:
        raise ValueError(
            f"{path.name} is compiled for {on.type}, not for device={device}; export it there"
        )
    package = _read(path, lambda: torch._inductor.aoti_load_package(str(path)))
    return lambda given: list(package(*given)), on


def _read(path: Path, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be loaded by this torch: {first}") from error
