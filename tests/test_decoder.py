"""Models and commands that have torchcodec read their videos: the same answers, and told apart."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import get_args

import av
import pyarrow.parquet
import pytest
import torch

import tiny_job
from tiny_job import drifting_images, write_checkpoint, write_list, write_video
from vidprune import cli, inference, reading
from vidprune.backbones.checkpoints import load
from vidprune.cli import corpora
from vidprune.cli.options import DECODERS
from vidprune.commands.evaluate import evaluate
from vidprune.corpus import alone
from vidprune.inference import Classifier, classify_with_each
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.pruned import prune
from vidprune.reading import Request, default_workers
from vidprune.video import Decoder, ReadByPyAV, clips, read_list, readers

NAMES = [f"{number:02d}.mp4" for number in range(4)]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with tiny_job.one_thread():
        yield


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos, of which 01.mp4 is broken and 02.mp4 is none for torchcodec."""
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_list(folder, videos=4, broken=1)
    write_video(folder / "02.avi", drifting_images(2)).rename(folder / "02.mp4")
    return folder


@pytest.fixture
def by_pyav(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of those that PyAV reads in this process."""
    seen: list[str] = []
    read = clips.read_frames

    def note(path: Path, *rest: object, **options: object) -> object:
        seen.append(Path(path).name)
        return read(path, *rest, **options)

    monkeypatch.setattr(clips, "read_frames", note)
    return seen


def classifier(job: Path, decoder: str) -> Classifier:
    model = load(job / "model")
    protocol = protocol_for(model, ViewOptions())
    cpu = torch.device("cpu")
    return Classifier(prune(model, "sta:r=4"), protocol, batch_size=3, device=cpu, decoder=decoder)


def command(job: Path, verb: str, decoder: str, *rest: str) -> int:
    with warnings.catch_warnings(action="ignore"):
        return cli.main(
            [
                *(verb, *rest, "--model", str(job / "model"), "--device", "cpu", "--workers", "0"),
                *("--reducer", "sta:r=4", "--decoder", decoder),
            ]
        )


@pytest.mark.parametrize("workers", [0, 2])
def test_answers_are_the_same_bit_for_bit(torchcodec, job, by_pyav, workers):
    asked = [Request(name, job / name, (0, 1, 2, 3)) for name in NAMES]
    expected = list(classifier(job, "pyav").classify(asked, workers=0))
    by_pyav.clear()
    with warnings.catch_warnings(action="ignore"):
        found = list(classifier(job, "torchcodec").classify(asked, workers=workers))
    if workers == 0:
        assert by_pyav == ["02.mp4"]
    assert len(found) == len(expected) == 13
    for ours, theirs in zip(found, expected, strict=True):
        if hasattr(theirs, "reason"):
            assert ours == theirs
        else:
            assert (ours.name, ours.view) == (theirs.name, theirs.view)
            assert torch.equal(ours.logits, theirs.logits)


def test_predict_says_the_same(torchcodec, job, by_pyav, capsys):
    said = []
    for decoder in ("pyav", "torchcodec"):
        by_pyav.clear()
        videos = [str(job / name) for name in NAMES]
        assert command(job, "predict", decoder, *videos, "--json") == 1
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert by_pyav == ["02.mp4"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_who_runs_a_command_is_told_once_why_pyav_reads(torchcodec, job, tmp_path, workers, capfd):
    """Also by processes that decode, whose warnings are not their own to show."""
    names = ["00.mp4", "a.avi", "b.avi", "c.mkv"]
    for name in names[1:3]:
        write_video(tmp_path / name, drifting_images(2))
    with av.open(str(tmp_path / "c.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 40, 56, "yuv420p"
        for image in drifting_images(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    (tmp_path / "00.mp4").write_bytes((job / "00.mp4").read_bytes())
    asked = ["predict", *(str(tmp_path / name) for name in names), "--json", "--device", "cpu"]
    model = ("--model", str(job / "model"), "--reducer", "none", "--workers", workers)
    assert cli.main([*asked, *model, "--decoder", "torchcodec"]) == 0
    said = [line for line in capfd.readouterr().err.splitlines() if "torchcodec" in line]
    assert sorted(said) == [
        "vidprune: PyAV reads videos that are not for torchcodec: its codec is ffv1",
        "vidprune: PyAV reads videos that are not for torchcodec: its container is avi",
    ]


def test_what_was_told_is_not_told_again_when_python_forgets_it(monkeypatch, capsys):
    """As torch's compiler has it do; and a library's warnings stay its own."""
    said = "PyAV reads videos that are not for torchcodec: its container is avi"

    def run(arguments):
        for _ in range(3):
            warnings.warn(ReadByPyAV(said), stacklevel=1)
            with warnings.catch_warnings():
                pass
        warnings.warn("of a library's own", stacklevel=1)
        return 0

    monkeypatch.setattr(cli.main.__globals__["VERBS"]["costs"], "run", run)
    with warnings.catch_warnings():
        assert cli.main(["costs", "--model", "demo"]) == 0
    assert capsys.readouterr().err == f"vidprune: {said}\n"


def test_a_report_names_it_and_another_decoder_is_another_run(torchcodec, job, tmp_path, capsys):
    rest = ("--data", str(job), "--output", str(tmp_path))
    assert command(job, "evaluate", "torchcodec", *rest) == 0
    assert json.loads((tmp_path / "report.json").read_text())["decoder"] == "torchcodec"
    kept = (tmp_path / "views.jsonl").read_bytes()
    assert command(job, "evaluate", "pyav", *rest) == 2
    assert "it was made with decoder 'torchcodec', not as usual;" in capsys.readouterr().err
    assert (tmp_path / "views.jsonl").read_bytes() == kept


def test_a_folder_of_answers_too(torchcodec, job, tmp_path, capsys):
    tables = {}
    for decoder in ("pyav", "torchcodec"):
        output = tmp_path / decoder
        rest = (*(str(job / name) for name in NAMES), "--output", str(output))
        assert command(job, "embed", decoder, *rest) == 1
        tables[decoder] = pyarrow.parquet.read_table(output).to_pylist()
    assert tables["pyav"] == tables["torchcodec"]
    capsys.readouterr()
    rest = (*(str(job / name) for name in NAMES), "--output", str(tmp_path / "pyav"))
    assert command(job, "embed", "torchcodec", *rest) == 2
    assert "it was made with decoder as usual, not 'torchcodec';" in capsys.readouterr().err


def test_ray_is_refused_with_it(torchcodec, job, tmp_path, capsys):
    rest = (str(job / "00.mp4"), "--output", str(tmp_path / "out"), "--ray")
    with pytest.raises(SystemExit) as ended:
        raise SystemExit(
            cli.main(["embed", *rest, "--model", str(job / "model"), "--decoder", "torchcodec"])
        )
    assert ended.value.code == 2
    assert "is for a job without Ray" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_benchmark_reads_with_it(torchcodec, job, tmp_path, by_pyav, capsys):
    status = cli.main(
        [
            *("benchmark", "--model", str(job / "model"), "--reducer", "sta:r=4"),
            *("--no-alternatives", "--batch-size", "2", "--repeats", "2", "--device", "cpu"),
            *("--workers", "0", "--video", str(job / "00.mp4"), "--decoder", "torchcodec"),
            *("--output", str(tmp_path)),
        ]
    )
    assert status == 0
    assert by_pyav == []
    record = json.loads((tmp_path / "benchmark.json").read_text())
    assert "--decoder torchcodec" in record["command"]
    assert all(row["end_to_end"] for row in record["rows"])


@pytest.mark.parametrize("verb", ["predict", "evaluate", "agreement", "embed", "benchmark"])
def test_where_it_is_not_there_nothing_is_begun(verb, job, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("vidprune.video.by_torchcodec.find_spec", lambda name: None)
    output = tmp_path / "out"
    rest = {
        "predict": [str(job / "00.mp4"), "--reducer", "sta:r=4"],
        "evaluate": ["--data", str(job), "--output", str(output), "--reducer", "sta:r=4"],
        "agreement": [str(job / "00.mp4"), "--reducer", "sta:r=4"],
        "embed": [str(job / "00.mp4"), "--output", str(output), "--reducer", "sta:r=4"],
        "benchmark": ["--reducer", "sta:r=4", "--video", str(job / "00.mp4")],
    }[verb]
    asked = [verb, *rest, "--model", str(job / "model"), "--device", "cpu"]
    assert cli.main([*asked, "--decoder", "torchcodec"]) == 2
    assert "pip install 'vidprune[torchcodec]'" in capsys.readouterr().err
    assert not output.exists()


def test_models_with_other_decoders_cannot_go_side_by_side(torchcodec, job):
    made = [classifier(job, "pyav"), classifier(job, "torchcodec")]
    with pytest.raises(ValueError, match="read_by=torchcodec cannot share one pass"):
        list(classify_with_each(made, []))


def test_the_command_lines_decoders_are_the_librarys():
    assert get_args(Decoder) == DECODERS


def test_a_gpus_pixels_are_told_apart(job):
    made = classifier(job, "pyav")
    assert made.read_by == "pyav"
    made.decoder = "torchcodec"
    assert made.read_by == "torchcodec"
    made.device = torch.device("cuda", 1)
    assert made.read_by == "torchcodec on cuda"


def test_a_model_names_its_gpu_whatever_thread_asks(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    for given, wanted in (("cuda", "cuda:3"), ("cuda:1", "cuda:1"), ("cpu", "cpu")):
        assert inference._with_number(torch.device(given)) == torch.device(wanted)


def test_limits_that_bind_nothing_are_refused():
    usual = {"decode_seconds": 300, "decode_gib": 4}
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    for decoder, device in (("pyav", gpu), ("torchcodec", cpu)):
        model = SimpleNamespace(decoder=decoder, device=device)
        corpora._check_limits(SimpleNamespace(decode_seconds=5, decode_gib=1), model)
    model = SimpleNamespace(decoder="torchcodec", device=gpu)
    corpora._check_limits(SimpleNamespace(**usual), model)
    with pytest.raises(ValueError, match=r"--decode-gib binds a process .* cuda:0 decodes in this"):
        corpora._check_limits(SimpleNamespace(**usual | {"decode_gib": 1}), model)


def test_evaluate_asks_for_as_many_as_the_decoder_can_use(torchcodec, job, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "vidprune.commands.evaluate.default_workers", lambda *given: asked.append(given) or 0
    )
    made = classifier(job, "torchcodec")
    with warnings.catch_warnings(action="ignore"):
        evaluate(made, read_list(job / "test.csv"), output=tmp_path, checkpoint="a", data="b")
    assert [given[2] for given in asked] == ["torchcodec"]


def test_threads_that_have_a_gpu_decode_are_few():
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
    assert [default_workers(gpu, cores, "torchcodec") for cores in (1, 4, 16, 64)] == [1, 4, 8, 8]
    assert [default_workers(cpu, cores, "torchcodec") for cores in (4, 16)] == [0, 16]


@pytest.mark.parametrize("module", [inference, alone])
def test_who_asks_for_videos_says_for_which_device(monkeypatch, job, module):
    """Views that a GPU decoded have to lie where the model is."""
    asked = []
    cuda = torch.device("cuda", 0)
    made = classifier(job, "pyav")
    made.decoder, made.device = "torchcodec", cuda
    if module is inference:
        monkeypatch.setattr(
            inference, "read_requests", lambda *rest, **how: asked.append(how) or ()
        )
        list(made.classify([Request("a", job / "a", (0,))], workers=1))
    else:
        monkeypatch.setattr(alone, "decoded", lambda *rest, **how: asked.append(how) or ())
        list(alone.Alone(made, None, None, None, workers=1)([]))
    assert [(how["decoder"], how["device"]) for how in asked] == [("torchcodec", cuda)]


def test_views_that_lie_on_the_models_device_are_put_together_there(monkeypatch):
    """And are not copied to the CPU's pinned memory and back."""
    monkeypatch.setattr(inference, "sent", lambda *rest: pytest.fail("it was sent"))
    used = []

    class OnGpu(torch.Tensor):
        is_cuda = True

        def record_stream(self, stream):
            used.append(stream)

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: "the model's")
    views = [torch.full((2, 3, 4, 4), number, dtype=torch.uint8) for number in range(3)]
    found = inference._batch([view.as_subclass(OnGpu) for view in views], torch.device("cpu"))
    assert torch.equal(found.as_subclass(torch.Tensor), torch.stack(views))
    assert used == ["the model's"] * 3


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_gpu_decodes_is_read_by_its_reader_and_nothing_else(monkeypatch, tmp_path, workers):
    """Also without threads, so that videos wait for no model."""
    made = []

    class Reader:
        def __init__(self, protocol, device):
            made.append(device)
            self.closed = Event()

        def read(self, path):
            return path.name

        def close(self):
            self.closed.set()

    monkeypatch.setattr(readers, "DeviceReader", Reader)
    gpu = torch.device("cuda", 1)
    asked = [Request(name, tmp_path / name, ()) for name in NAMES]
    found = reading.read_requests(asked, None, workers, decoder="torchcodec", device=gpu)
    assert [pixels for _, pixels in found] == NAMES
    assert set(made) == {gpu}
    assert len(made) == max(1, workers)
