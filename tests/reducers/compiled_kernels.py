"""Kernels compiled for GPUs that are not here."""

import subprocess
import sys

_COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

def compiled(kernel, types, constants, **options):
    source = ASTSource(
        fn=kernel, signature=types | dict.fromkeys(constants, "constexpr"), constexprs=constants
    )
    for capability in (80, 90):
        found = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert found.asm["cubin"]
        # What a block may have on every GPU since Ampere.
        assert found.metadata.shared <= 99 * 1024
"""


def compile_kernels(code: str) -> None:
    """Run code that calls `compiled(kernel, types, constants, **options)`: to machine code, in
    shared memory that every GPU has. Elsewhere, since here kernels are interpreted."""
    environment = {"PATH": "/usr/bin:/bin", "TRITON_INTERPRET": "0"}
    subprocess.run([sys.executable, "-c", _COMPILED + code], check=True, env=environment)
