"""What a user names becomes a model and views that fit each other."""

import pytest
import torch

from tiny_job import CLASSES, VIEWS, write_checkpoint
from tiny_videomae import tiny_videomae
from vidprune.backbones.checkpoints import load
from vidprune.backbones.registry import adapt
from vidprune.labels import label_names
from vidprune.prepare import ViewOptions, load_model, protocol_for
from vidprune.video import PROTOCOLS, Protocol


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """16 frames of 32 x 32, patches of 8; records 2 x 2 segment views."""
    return str(write_checkpoint(tmp_path_factory.mktemp("models") / "recording"))


@pytest.fixture(scope="module")
def silent_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same without a record of its views."""
    folder = tmp_path_factory.mktemp("models") / "silent"
    tiny_videomae(image_size=32, patch_size=8, num_labels=CLASSES).save_pretrained(folder)
    return str(folder)


def views_of(source: str, **parts: object) -> Protocol:
    options = ViewOptions(**parts)
    return protocol_for(load_model(source, options=options), options)


def test_without_a_word_it_is_what_the_checkpoint_records(model_folder):
    assert views_of(model_folder) == Protocol(**VIEWS, frames=16, size=32)


def test_where_nothing_is_recorded_it_is_one_centre_view(silent_folder):
    found = views_of(silent_folder)
    assert (found.sampling, found.segments, found.crops, found.stride) == ("dense", 1, 1, 4)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_preset_replaces_the_record_but_for_the_models_own_shape(model_folder, name):
    found, preset = views_of(model_folder, protocol=name), PROTOCOLS[name]
    for part in ("sampling", "segments", "crops", "stride"):
        assert getattr(found, part) == getattr(preset, part)
    assert (found.frames, found.size) == (16, 32)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"segments": 7}, (7, 3, 4)),
        ({"crops": 1}, (5, 1, 4)),
        ({"stride": 2}, (5, 3, 2)),
        ({"segments": 1, "crops": 2, "stride": 3}, (1, 2, 3)),
        ({"sampling": "segment"}, (5, 3, 1)),
        ({"sampling": "segment", "stride": 1}, (5, 3, 1)),
        ({"sampling": "centred"}, (5, 3, 4)),
    ],
)
def test_parts_replace_those_of_the_preset(model_folder, parts, expected):
    found = views_of(model_folder, protocol="k400", **parts)
    assert (found.segments, found.crops, found.stride) == expected
    assert found.sampling == parts.get("sampling", "dense")


def test_parts_replace_those_of_the_record(model_folder):
    found = views_of(model_folder, crops=3)
    assert found == Protocol(**VIEWS | {"crops": 3}, frames=16, size=32)


def test_a_stride_in_segment_sampling_is_refused(model_folder):
    with pytest.raises(ValueError, match="stride is 2, but segment sampling"):
        views_of(model_folder, protocol="ssv2", stride=2)


def test_an_unknown_preset_lists_the_known(model_folder):
    with pytest.raises(ValueError, match=r"protocol='k700' .* hmdb51, videoswin-k400, videoswin-"):
        views_of(model_folder, protocol="k700")


@pytest.mark.parametrize(("frames", "size"), [(8, None), (32, None), (None, 64), (8, 48)])
def test_frames_and_size_fit_the_model_and_the_views(model_folder, frames, size):
    options = ViewOptions(frames=frames, size=size)
    model = load_model(model_folder, options=options)
    protocol = protocol_for(model, options)
    expected = (frames or 16, size or 32)
    assert (protocol.frames, protocol.size) == expected
    assert adapt(model).clip_shape == (expected[0], 3, expected[1], expected[1])
    with torch.no_grad():
        clip = torch.zeros(1, *adapt(model).clip_shape)
        assert model(clip).logits.shape == (1, CLASSES)


@pytest.mark.parametrize(
    ("protocol", "labels"),
    [
        ("k400", "kinetics400"),
        ("ssv2", "something_something_v2"),
        ("videoswin-k400", "kinetics400"),
        ("videoswin-ssv2", "something_something_v2"),
    ],
)
def test_a_head_without_names_gets_those_of_the_protocol(tmp_path, protocol, labels):
    names = label_names(labels)
    tiny_videomae(num_labels=len(names)).save_pretrained(tmp_path)
    model = load_model(str(tmp_path), options=ViewOptions(protocol=protocol))
    assert tuple(model.config.id2label.values()) == names
    assert model.config.label2id[names[3]] == 3


def test_a_head_of_another_size_or_with_names_keeps_them(tmp_path, model_folder):
    other = load_model(model_folder, options=ViewOptions(protocol="k400"))
    assert other.config.id2label[0] == "LABEL_0"
    own = {index: f"own {index}" for index in range(400)}
    tiny_videomae(num_labels=400, id2label=own).save_pretrained(tmp_path)
    named = load_model(str(tmp_path), options=ViewOptions(protocol="k400"))
    assert named.config.id2label[7] == "own 7"


def test_labels_of_another_number_are_refused(model_folder):
    with pytest.raises(ValueError, match=r"labels holds 400 names, but .* 7 classes"):
        load_model(model_folder, options=ViewOptions(), labels="kinetics400")


def test_labels_come_from_a_file(model_folder, tmp_path):
    (tmp_path / "names.txt").write_text("\n".join("abcdefg"), encoding="utf-8")
    labels = str(tmp_path / "names.txt")
    model = load_model(model_folder, options=ViewOptions(), labels=labels)
    assert "".join(model.config.id2label.values()) == "abcdefg"


@pytest.mark.parametrize(("name", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
def test_a_model_comes_in_the_precision_asked_for(model_folder, name, dtype):
    assert load_model(model_folder, options=ViewOptions(), dtype=name).dtype == dtype


def test_an_unknown_precision_lists_the_known(model_folder):
    with pytest.raises(ValueError, match="dtype='int8' is not known; choose one of fp32"):
        load_model(model_folder, options=ViewOptions(), dtype="int8")


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_config_that_is_none_is_named(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"config=.*config\.json' is not"):
        load_model("vit_small_patch16_224", options=ViewOptions(), config=path)


def test_the_demo_model_records_how_it_is_run():
    model = load("demo")
    protocol = protocol_for(model, ViewOptions())
    assert len(protocol.views) == 1
    assert (protocol.frames, protocol.size) == (16, 64)
