"""A program as torch's own archives: a portable one, and one of compiled code."""

from pathlib import Path

import torch

from vidprune.exporting.program import Program


def write_archive(program: Program, path: Path) -> None:
    """Write what `torch.export.load` reads, on any machine with torch."""
    torch.export.save(program.exported, path)


def write_compiled(program: Program, path: Path) -> None:
    """Compile by AOTInductor, and write what `torch._inductor.aoti_load_package` reads: a package
    for this kind of machine, this version of torch and this device, without Python in it.

    Raises RuntimeError without a C++ compiler.
    """
    try:
        torch._inductor.aoti_compile_and_package(program.exported, package_path=str(path))
    except torch._inductor.exc.InvalidCxxCompiler as error:
        raise RuntimeError(
            "compiling ahead of time needs a C++ compiler, such as g++; install one, or export as "
            "torch or onnx"
        ) from error
