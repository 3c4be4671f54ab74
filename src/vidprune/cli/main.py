"""From the words of a command to a verb, and from whatever goes wrong to a sentence."""

import argparse
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn, TextIO

from vidprune.cli import (
    agreement,
    app,
    benchmark,
    compare,
    costs,
    curves,
    demo,
    embed,
    evaluate,
    export,
    predict,
    reproduce,
    train,
    tune,
    visualize,
)
from vidprune.cli.statuses import FAILURE, INTERRUPTED, USAGE
from vidprune.disk import FULL
from vidprune.memory import keep_freed_memory
from vidprune.printable import shown

# The order of the help text.
VERBS = {
    "predict": predict,
    "embed": embed,
    "evaluate": evaluate,
    "compare": compare,
    "agreement": agreement,
    "curves": curves,
    "reproduce": reproduce,
    "costs": costs,
    "benchmark": benchmark,
    "visualize": visualize,
    "app": app,
    "tune": tune,
    "export": export,
    "train": train,
    "demo": demo,
}

# Errors about the arguments themselves; whatever else goes wrong is a failure.
_ARGUMENT_ERRORS = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
)


# As `vidprune.video.ReadByPyAV` begins, which is not imported: torch would be with it.
_READ_BY_PYAV = "PyAV reads videos that are not for torchcodec"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0, 1 for a failure, 2 for wrong arguments."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = parser().parse_args(argv)
    arguments.command = shlex.join(["vidprune", *argv])
    if not arguments.debug:
        _quieten_libraries()
    _tell_who_reads()
    keep_freed_memory()
    try:
        return int(arguments.run(arguments))
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED, arguments.debug)
    except BrokenPipeError:
        # Whoever read our output has seen enough; keep Python from failing over it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except _ARGUMENT_ERRORS as error:
        return _fail(_sentence(error), USAGE, arguments.debug)
    except Exception as error:  # noqa: BLE001 - the last stop: users get a sentence, not a traceback
        return _fail(_sentence(error), FAILURE, arguments.debug)


def _fail(message: str, status: int, debug: bool) -> int:
    if debug:
        raise
    print(f"vidprune: {shown(message)}", file=sys.stderr)
    return status


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in FULL:
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}the disk is full ({error.strerror}); free some of it and give the same "
            "command again, which goes on from what is there"
        )
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    lines = str(error).strip().splitlines() or [""]
    # An error of a decoding process comes with its traceback before it.
    message = " ".join((lines[-1] if "Original Traceback" in str(error) else str(error)).split())
    ours = type(error).__module__.startswith("vidprune") or isinstance(error, _ARGUMENT_ERRORS)
    return message if ours and message else f"{type(error).__name__}: {message} (see --debug)"


def _quieten_libraries() -> None:
    """Leave the terminal to our own words; transformers prints tables while it loads."""
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Where torchao is installed transformers import it: it tells of libraries for other GPUs, and
    # torch of how it registers its types.
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _tell_who_reads() -> None:
    """Say in our words, and once each, why PyAV reads what torchcodec was asked to.

    What Python remembers of warnings that were shown, torch's compiler has it forget.
    """
    show_others, told = warnings.showwarning, set[str]()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = str(message)
        if not text.startswith(_READ_BY_PYAV):
            show_others(message, category, filename, lineno, file, line)
        elif text not in told:
            told.add(text)
            print(f"vidprune: {shown(text)}", file=sys.stderr)

    warnings.filterwarnings("always", message=_READ_BY_PYAV)
    warnings.showwarning = show


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with the status of wrong arguments."""
        self.exit(USAGE, f"vidprune: {shown(message)}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line; what a verb does is left in `run`."""
    whole = Parser(
        prog="vidprune",
        description="Video transformers made cheaper to run, without training.",
    )
    whole.add_argument("--version", action="version", version=f"vidprune {version('vidprune')}")
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="COMMAND")
    for module in VERBS.values():
        verb = module.add(verbs)
        verb.add_argument(
            "--debug", action="store_true", help="show tracebacks and what libraries say"
        )
        verb.set_defaults(run=module.run)
    return whole
