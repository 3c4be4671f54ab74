"""Processor files say how pixels are normalised: the numbers are those of the processors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import VivitImageProcessor
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from tiny_checkpoints import tiny
from vidprune.backbones.checkpoints import load
from vidprune.backbones.normalisation import of_processor

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
PLAIN = {"do_resize": False, "do_center_crop": False}


def ours(record: dict[str, Any]) -> np.ndarray:
    found = of_processor(record)
    mean, std = np.array(found["image_mean"]), np.array(found["image_std"])
    return ((IMAGE / 255 - mean) / std).transpose(2, 0, 1)


@pytest.mark.parametrize("processor", [VivitImageProcessor, VideoMAEImageProcessorPil])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"rescale_factor": 1 / 255},
        {"offset": False},
        {"do_rescale": False, "offset": False},
    ],
)
def test_pixels_come_out_as_from_transformers_processor(
    processor: Any, options: dict[str, Any]
) -> None:
    if processor is not VivitImageProcessor:
        options = {name: value for name, value in options.items() if name != "offset"}
    theirs = processor(**PLAIN, **options)
    # As it writes itself to preprocessor_config.json.
    record = json.loads(theirs.to_json_string())
    wanted = np.asarray(theirs.preprocess([IMAGE])["pixel_values"][0][0])
    np.testing.assert_allclose(ours(record), wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


def test_vivits_published_file_has_no_offset_in_it_and_yet_one() -> None:
    record = {"image_processor_type": "ViViTImageProcessor", "rescale_factor": 0.00784313725490196}
    record |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    assert of_processor(record) == {"image_mean": [0.75] * 3, "image_std": [0.25] * 3}


@pytest.mark.parametrize(
    ("name", "record", "mean", "std"),
    [
        (
            "preprocessor_config.json",
            {"image_mean": 0.45, "image_std": 0.225, "rescale_factor": 0.00392156862745098},
            0.45,
            0.225,
        ),
        ("video_preprocessor_config.json", {"do_normalize": False}, 0.0, 1.0),
        ("processor_config.json", {"video_processor": {"do_normalize": False}}, 0.0, 1.0),
        ("preprocessor_config.json", {"size": 4}, 0.5, 0.5),
    ],
)
def test_a_folders_processor_is_read_and_else_the_family_decides(
    tmp_path: Path, name: str, record: dict[str, Any], mean: float, std: float
) -> None:
    tiny("vivit").save_pretrained(tmp_path)
    (tmp_path / name).write_text(json.dumps(record))
    config = load(tmp_path).config
    assert (config.image_mean, config.image_std) == ([mean] * 3, [std] * 3)


def test_a_recorded_normalisation_outlives_saving_without_a_processor(tmp_path: Path) -> None:
    tiny("timesformer", image_mean=[0.1] * 3, image_std=[0.3] * 3).save_pretrained(tmp_path)
    assert load(tmp_path).config.image_mean == [0.1] * 3
