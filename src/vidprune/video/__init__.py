"""Video files -> clips: which frames, decoding them, cutting views, and lists of labelled videos.

Knows nothing of models. From file to tensor: `views` says which frames and crops, `decode`
fetches those frames in one pass, `resize` scales them, `clips` joins the three, and `preprocess`
normalises on the device. `datasets` reads lists and folders.
"""

from vidprune.video.by_torchcodec import Decoder, ReadByPyAV, check_decoder
from vidprune.video.clips import Views, cut_views, read_views
from vidprune.video.datasets import (
    Sample,
    class_names,
    expand_inputs,
    plain_names,
    read_class_folders,
    read_dataset,
    read_list,
)
from vidprune.video.decode import Frames, read_frames
from vidprune.video.opening import UnreadableVideo
from vidprune.video.preprocess import IMAGENET, Normalisation, normalise, sent
from vidprune.video.resize import resize_short_side
from vidprune.video.views import PROTOCOLS, Protocol

__all__ = [
    "IMAGENET",
    "PROTOCOLS",
    "Decoder",
    "Frames",
    "Normalisation",
    "Protocol",
    "ReadByPyAV",
    "Sample",
    "UnreadableVideo",
    "Views",
    "check_decoder",
    "class_names",
    "cut_views",
    "expand_inputs",
    "normalise",
    "plain_names",
    "read_class_folders",
    "read_dataset",
    "read_frames",
    "read_list",
    "read_views",
    "resize_short_side",
    "sent",
]
