"""Decoded frames as a viewer sees them: upright images in red, green, blue."""

from typing import cast

import numpy as np
import numpy.typing as npt
from av.error import FFmpegError
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from vidprune.video.opening import Path, UnreadableVideo, message_of

__all__ = ["Converter", "Image", "display_matrix", "upright"]

Image = npt.NDArray[np.uint8]


class Converter:
    """Decoded frames to upright RGB images, all of the size of the stream's first frame.

    (Streams may change their size on the way; players scale to the size they began with.)
    """

    def __init__(self, path: Path, first: VideoFrame) -> None:
        self._path = path
        self._width, self._height = first.width, first.height
        self._reformatter = VideoReformatter()

    def image(self, frame: VideoFrame) -> Image:
        """(H, W, 3) uint8."""
        try:
            rgb = self._reformatter.reformat(
                frame, self._width, self._height, format="rgb24", threads=1
            )
        except (FFmpegError, ValueError) as error:
            raise UnreadableVideo(
                self._path,
                f"its pixel format {frame.format.name} cannot be converted ({message_of(error)})",
            ) from error
        pixels = np.asarray(rgb.to_ndarray(), dtype=np.uint8)
        return upright(pixels, display_matrix(frame))


def display_matrix(frame: VideoFrame) -> npt.NDArray[np.float64] | None:
    """Return the upper left 2 x 2 of a frame's display matrix, up to scale; None without one."""
    try:
        # (A cast, because PyAV's stub knows of motion vectors only.)
        side_data = cast(SideDataContainer, frame.side_data)[SideDataType.DISPLAYMATRIX]
    except KeyError:
        return None
    except ValueError:
        # The frame carries side data of a kind that PyAV has no name for, and PyAV then lists
        # none of it. The angle, counter-clockwise, is still to be had; a mirror image is not.
        angle = np.deg2rad(frame.rotation)
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (
        np.frombuffer(bytes(side_data), dtype=np.int32, count=9).reshape(3, 3)[:2, :2].astype(float)
    )


def upright(image: Image, matrix: npt.NDArray[np.float64] | None) -> Image:
    """Apply a display matrix, taken to the nearest quarter turn, to an (H, W, 3) image.

    The matrix maps (x, y, 1) as a row vector: x' = m00·x + m10·y, y' = m01·x + m11·y.
    """
    if matrix is None:
        return np.ascontiguousarray(image)
    (along_xx, along_xy), (along_yx, along_yy) = matrix.tolist()
    x_from, y_from = along_xx, along_yy
    if abs(along_yx) > abs(along_xx):
        image = image.transpose(1, 0, 2)
        x_from, y_from = along_yx, along_xy
    rows = slice(None, None, -1 if y_from < 0 else 1)
    columns = slice(None, None, -1 if x_from < 0 else 1)
    return np.ascontiguousarray(image[rows, columns])
