"""One sentence and the right exit status for whatever is wrong."""

import re

import pytest

from good_command import call


def wrong(
    argument: str, *options: str, status: int = 2, says: tuple[str, ...], verb: str = "both"
) -> object:
    return pytest.param(options, status, says, verb, id=argument)


# What is wrong, how the command is called ({job} is the folder above), the status, and what the
# one line on stderr says. Options given here come after the good ones and win over them.
WRONG = [
    wrong("reducer unknown", "--reducer", "best:r=8", says=("reducer 'best'", "none, sta, random")),
    wrong(
        "reducer option unknown", "--reducer", "sta:q=8", says=("sta has no option 'q'", "order")
    ),
    wrong(
        "reducer option without value", "--reducer", "sta:r", says=("option 'r'", "needs a value")
    ),
    wrong("reducer r missing", "--reducer", "sta", says=("r=None", "such as r=64")),
    wrong("reducer r negative", "--reducer", "sta:r=-1", says=("r=-1", "at least 0")),
    wrong(
        "reducer r too large",
        *("--reducer", "sta:r=16"),
        says=("cannot drop 16", "a group holds 16 tokens", "smaller r"),
    ),
    wrong(
        "reducer stages beyond the model",
        *("--reducer", "sta:r=2,blocks=0/8/16"),
        says=("0, 8, 16", "a model of 6 blocks", "choose other blocks"),
    ),
    wrong(
        "model missing", "--model", "{job}/no.pth", says=("no.pth does not exist", "config.json")
    ),
    wrong("model a folder without config", "--model", "{job}/bad/folder", says=("bad/folder",)),
    wrong(
        "model of another family",
        *("--model", "{job}/bad/vit"),
        status=1,
        says=("bad/vit", "family 'vit'", "videomae"),
    ),
    wrong(
        "original without arch", "--model", "{job}/bad/small.pth", says=("arch", "vit_base_patch")
    ),
    wrong(
        "arch unknown",
        *("--model", "{job}/bad/small.pth", "--arch", "vit_tiny"),
        says=("arch='vit_tiny'", "vit_small_patch16_224"),
    ),
    wrong(
        "arch beside a folder", "--arch", "vit_base_patch16_224", says=("is a folder", "omit arch")
    ),
    wrong(
        "arch that does not fit",
        *("--model", "{job}/bad/small.pth", "--arch", "vit_small_patch16_224"),
        status=1,
        says=("small.pth", "missing", "check arch"),
    ),
    wrong(
        "model of other tensors",
        *("--model", "{job}/bad/other.pth", "--arch", "vit_small_patch16_224"),
        status=1,
        says=("not a VideoMAE classifier", "head.weight"),
    ),
    wrong(
        "model of random bytes",
        *("--model", "{job}/bad/random.pth", "--arch", "vit_small_patch16_224"),
        status=1,
        says=("random.pth cannot be read", "state dict"),
    ),
    wrong(
        "model a pickle of something",
        *("--model", "{job}/bad/pickle.pth", "--arch", "vit_small_patch16_224"),
        status=1,
        says=("pickle.pth", "state dict"),
    ),
    wrong(
        "config not JSON",
        *("--model", "{job}/bad/small.pth", "--config", "{job}/bad/config.json"),
        says=("config=", "bad/config.json' is not the JSON object"),
    ),
    wrong(
        "config missing",
        *("--model", "{job}/bad/small.pth", "--config", "{job}/no.json"),
        says=("no.json' is no file",),
    ),
    wrong("config a folder", "--config", "{job}/bad/folder", says=("folder' is no file",)),
    wrong(
        "labels missing", "--labels", "{job}/no.txt", says=("labels='", "no.txt'", "kinetics400")
    ),
    wrong("labels a folder", "--labels", "{job}/bad/folder", says=("labels='", "kinetics400")),
    wrong(
        "labels too few", "--labels", "{job}/bad/names.txt", says=("labels holds 2", "7 classes")
    ),
    wrong("protocol unknown", "--protocol", "k700", says=("protocol='k700'", "k400, ssv2, ucf101")),
    wrong(
        "stride with segments",
        *("--protocol", "ssv2", "--stride", "2"),
        says=("stride is 2", "segment sampling", "sampling='dense'"),
    ),
    wrong("sampling unknown", "--sampling", "sparse", says=("--sampling", "'sparse'", "dense")),
    wrong("segments 0", "--segments", "0", says=("segments is 0", "1 or more")),
    wrong("crops negative", "--crops", "-1", says=("crops is -1", "1 or more")),
    wrong("stride 0", "--protocol", "k400", "--stride", "0", says=("stride is 0", "1 or more")),
    wrong("frames of half a tubelet", "--frames", "15", says=("frames=15", "multiple of 2")),
    wrong("frames 0", "--frames", "0", says=("frames=0", "positive multiple of 2")),
    wrong("size of half a patch", "--size", "36", says=("size=36", "multiple of 8")),
    wrong("batch size 0", "--batch-size", "0", says=("batch_size=0", "at least 1")),
    wrong("batch size a word", "--batch-size", "many", says=("--batch-size", "'many'")),
    wrong("workers negative", "--workers", "-1", says=("workers=-1", "or more")),
    wrong("device unknown", "--device", "gpu", says=("device='gpu'", "choose cpu, cuda")),
    wrong("device not there", "--device", "cuda:77", says=("device='cuda:77'", "leave it out")),
    wrong("dtype unknown", "--dtype", "int8", says=("--dtype", "'int8'", "bf16")),
    wrong("option unknown", "--fast", says=("--fast", "--help")),
    wrong("top-k 0", "--top-k", "0", says=("top_k=0", "at least 1"), verb="predict"),
    wrong("data missing", "--data", "{job}/no.csv", says=("data is", "no.csv'"), verb="evaluate"),
    wrong(
        "data empty", "--data", "{job}/bad/empty.csv", says=("no video is listed",), verb="evaluate"
    ),
    wrong(
        "data without videos",
        *("--data", "{job}/bad/folder"),
        says=("bad/folder: no class folder", "give a list file"),
        verb="evaluate",
    ),
    wrong(
        "data line without label",
        *("--data", "{job}/bad/line.csv"),
        says=("line.csv, line 1: '00.mp4' has no label", "path label"),
        verb="evaluate",
    ),
    wrong(
        "data label no number",
        *("--data", "{job}/bad/word.csv"),
        says=("word.csv, line 1", "'seven'", "whole number"),
        verb="evaluate",
    ),
    wrong(
        "data label outside the head",
        *("--data", "{job}/bad/wide.csv"),
        says=("label 9 of 01.mp4", "head's 7 classes (0 to 6)", "checkpoint"),
        verb="evaluate",
    ),
    wrong(
        "data not UTF-8",
        *("--data", "{job}/bad/latin.csv"),
        says=("latin.csv: byte 0 is not UTF-8", "save the list"),
        verb="evaluate",
    ),
    wrong(
        "output of another run",
        *("--output", "{job}/bad/run"),
        says=("bad/run belongs to another run", "reducer 'none', not", "choose another folder"),
        verb="evaluate",
    ),
    wrong(
        "output of another run, with scalars",
        *("--output", "{job}/bad/run", "--tensorboard"),
        says=("bad/run belongs to another run",),
        verb="evaluate",
    ),
    wrong(
        "output of nobody knows whom",
        *("--output", "{job}/bad/foreign"),
        says=("bad/foreign belongs to another run", "no run.json"),
        verb="evaluate",
    ),
    wrong(
        "output a file",
        *("--output", "{job}/bad/file"),
        says=("bad/file is a file", "name a folder"),
        verb="evaluate",
    ),
]


@pytest.mark.parametrize(("options", "status", "says", "verb"), WRONG)
def test_one_sentence_and_the_right_status(job, capsys, options, status, says, verb):
    before = sorted(job.rglob("*"))
    found = call(job, "predict" if verb == "both" else verb, *options)
    shown = capsys.readouterr()
    assert found == status, shown.err
    assert shown.out == ""
    assert re.fullmatch(r"vidprune: [^\n]+\n", shown.err)
    assert "Traceback" not in shown.err
    assert "(see --debug)" not in shown.err, "a sentence of ours, not a library's"
    for words in says:
        assert words in shown.err
    assert sorted(job.rglob("*")) == before
