"""A local video file opened for decoding, and nothing but a local file."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.stream import VideoStream

from vidprune.video.truncation import missing_bytes

__all__ = ["OpenVideo", "Path", "UnreadableVideo", "message_of", "opened"]

Path = str | os.PathLike[str]


class UnreadableVideo(Exception):
    """A video that cannot be read to its end: `path`, and `reason` in one sentence."""

    def __init__(self, path: Path, reason: str) -> None:
        # Both go to Exception, so that the error survives pickling between worker processes.
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{os.fspath(self.path)}: {self.reason}"


@dataclass(frozen=True)
class OpenVideo:
    """A file opened for decoding: its container and best video stream, and its size on disk.

    `size`: width and height of the stream's frames, as its header has them.
    """

    path: Path
    container: InputContainer
    stream: VideoStream
    size: tuple[int, int]
    num_bytes: int
    missing_bytes: int


@contextmanager
def opened(path: Path, threads: int) -> Iterator[OpenVideo]:
    """The file's best video stream, to be decoded by so many `threads`.

    Raises UnreadableVideo where there is none.
    """
    # Note [only local files]
    # FFmpeg is handed an open file, never a name: a path cannot turn into a URL or a protocol
    # ("http:", "concat:"), and the kind of file is told by its content, not by its ending (".txt"
    # would be played as terminal art). The empty list of protocols stops playlists (HLS, DASH,
    # concat scripts) from opening anything else. It is an option for the container only: PyAV
    # before 18 crashes where options go to the streams of an MPEG programme stream as well.
    with _open_file(path) as file:
        try:
            num_bytes, missing = os.fstat(file.fileno()).st_size, missing_bytes(file)
            container = av.open(
                _Unnamed(file),
                mode="r",
                container_options={"protocol_whitelist": ""},
                metadata_errors="replace",
            )
        except (FFmpegError, OSError) as error:
            raise UnreadableVideo(
                path, f"it cannot be opened as a video ({message_of(error)})"
            ) from error
        with container:
            stream = _best_stream(path, container)
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = threads
            size = stream.codec_context.width, stream.codec_context.height
            yield OpenVideo(path, container, stream, size, num_bytes, missing)


class _Unnamed:
    """An open file without its name; see Note [only local files]."""

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


def _open_file(path: Path) -> BinaryIO:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            kind = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise UnreadableVideo(path, f"it is {kind}, not a video file")
        if status.st_size == 0:
            raise UnreadableVideo(path, "the file is empty")
        return open(path, "rb")
    except FileNotFoundError as error:
        reason = "there is no such file"
        if "://" in os.fspath(path):
            reason = "it is an address, and only files on this machine are read here"
        raise UnreadableVideo(path, reason) from error
    except (OSError, ValueError) as error:
        raise UnreadableVideo(path, f"it cannot be opened ({message_of(error)})") from error


def _best_stream(path: Path, container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise UnreadableVideo(path, "it holds no video stream")
    if stream.codec_context is None:
        raise UnreadableVideo(path, "FFmpeg has no decoder for its video stream")
    return stream


def message_of(error: Exception) -> str:
    """What an error says, or else what it is called."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
