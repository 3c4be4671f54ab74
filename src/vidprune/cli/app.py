"""`vidprune app`."""

import argparse
import signal
from typing import Any


def add(verbs: Any) -> argparse.ArgumentParser:
    """Its arguments."""
    verb: argparse.ArgumentParser = verbs.add_parser(
        "app",
        help="a local page: drop a video, move r, see which tokens go",
        description="Serve a page on this machine on which one drops a video, chooses a model and "
        "a reducer, moves r, and sees what is left, the predictions dense and pruned, and what "
        "either takes. It is bound to loopback unless --host says otherwise, and needs Gradio "
        "(pip install 'vidprune[app]').",
    )
    verb.add_argument(
        "--model",
        dest="models",
        nargs="+",
        default=["demo"],
        metavar="SOURCE",
        help="what can be chosen: Hugging Face id or folder, name of an architecture for random "
        "weights, or `demo` (demo)",
    )
    verb.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    verb.add_argument("--port", type=int, metavar="N", help="(the first free one from 7860)")
    verb.add_argument(
        "--upload-mib", type=int, default=256, metavar="N", help="largest upload taken (256)"
    )
    verb.add_argument(
        "--video-seconds", type=int, default=600, metavar="N", help="longest video taken (600)"
    )
    return verb


def run(arguments: argparse.Namespace) -> int:
    """Its exit status; it serves until interrupted."""
    from vidprune.app.answers import Limits
    from vidprune.app.page import serve

    # Whoever ends it so wants the temporary folder gone as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    serve(
        arguments.models,
        host=arguments.host,
        port=arguments.port,
        limits=Limits(upload_mib=arguments.upload_mib, video_seconds=arguments.video_seconds),
        tell=lambda address: print(
            f"vidprune serves {address} until it is interrupted", flush=True
        ),
    )
    return 0
