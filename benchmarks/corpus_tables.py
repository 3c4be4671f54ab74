"""Tables of what jobs over many videos withstand."""

from records import benchmark_record, report_record

from vidprune.report import hardware

_TARGETS = ("lists", "checkpoints", "videos", "corpora")


def fuzz() -> str:
    """What became of damaged and hostile input."""
    records = {target: report_record(f"fuzz/{target}") for target in _TARGETS}
    lines = ["| | inputs | refused in a sentence | read | anything else |", "|---|--:|--:|--:|--:|"]
    for target, record in records.items():
        outcomes = record["outcomes"]
        refused, read = (outcomes.get(word, 0) for word in ("refused", "read"))
        other = record["inputs"] - refused - read
        lines.append(f"| {target} | {record['inputs']} | {refused} | {read} | {other} |")
    last = records["videos"]
    said = f"{hardware(last['environment'])}, {last['date'][:10]}; such as `{last['command']}`."
    return "\n".join([*lines, "", said, ""])


# Of a plan: GPU records, and what of them; dense, then pruned.
_PLANNED = {
    "ViT-B": ("gpu/base-batch-32", ("none", "random:r=64", "sta:r=64", "sta:r=96")),
    "ViT-L": ("gpu/large-batch-32", ("none", "random:r=64", "sta:r=64", "sta:r=96")),
}
_MILLION, _HOUR = 1_000_000, 3600


def plan() -> str:
    """What a million videos take of GPUs, of cores that decode, and of a network."""
    reading = report_record("corpus/decode")
    lines = [
        "| a million videos | GPU-hours | decoding, core-hours | cores that keep one GPU busy | "
        "read per GPU, MB/s |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, views in (("one view", 1), ("15 views", 15)):
        core_seconds = reading["ways"][name]["core_seconds_per_video"]
        for model, (record, reducers) in _PLANNED.items():
            for reducer in reducers:
                rate = _clips_per_second(record, reducer) / views
                cells = (
                    f"{_MILLION / rate / _HOUR:.2f}",
                    f"{_MILLION * core_seconds / _HOUR:.0f}",
                    f"{rate * core_seconds:.0f}",
                    f"{rate * reading['mean_bytes'] / 1e6:.0f}",
                )
                lines.append(f"| {model}, {name}, `{reducer}` | {' | '.join(cells)} |")
    gpu = benchmark_record(_PLANNED["ViT-L"][0])
    said = (
        f"GPU: {gpu.environment['device']}, bf16, 32 clips of 16 frames at once, compiled blocks, "
        f"weights random; cores: {hardware(reading['environment'])}, {reading['videos']} videos of "
        f"ten seconds, {reading['mean_bytes'] / 1e6:.2f} MB each: `{reading['command']}`."
    )
    return "\n".join([*lines, "", said, ""])


def _clips_per_second(record: str, reducer: str) -> float:
    rows = benchmark_record(record).rows
    (row,) = (r for r in rows if (r.setting.reducer, r.setting.mode) == (reducer, "blocks"))
    assert row.speed is not None, "it was timed"
    return row.speed.clips_per_second


def rates() -> str:
    """Videos a second by the plain loop and by Ray."""
    found = report_record("corpus/rates")
    lines = [
        "| | from start to end, s | videos/s | once it runs, videos/s |",
        "|---|--:|--:|--:|",
    ]
    for way, each in found["ways"].items():
        cells = (
            f"{each['seconds']:.0f}",
            f"{each['videos_per_second']:.1f}",
            f"{each['steady_videos_per_second']:.1f}",
        )
        lines.append(f"| {way} | {' | '.join(cells)} |")
    said = f"{found['videos']} videos; {hardware(found['environment'])}, {found['date'][:10]}: "
    return "\n".join([*lines, "", f"{said}`{found['command']}`.", ""])


def memory() -> str:
    """What all processes of a job hold, as it goes on."""
    found = report_record("corpus/memory")
    shares = (0.1, 0.25, 0.5, 0.75, 0.95)
    lines = [
        f"| MiB after so much of the videos | {' | '.join(f'{s:.0%}' for s in shares)} | most |",
        "|---|" + "--:|" * (len(shares) + 1),
    ]
    for way, samples in found["ways"].items():
        reached = [
            next(mib for _, videos, mib in samples if videos >= share * found["videos"])
            for share in shares
        ]
        cells = [f"{mib:.0f}" for mib in (*reached, max(mib for *_, mib in samples))]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    said = f"{found['videos']} videos; {hardware(found['environment'])}, {found['date'][:10]}: "
    return "\n".join([*lines, "", f"{said}`{found['command']}`.", ""])


def kills() -> str:
    """What was killed, and what came of it."""
    lines = [
        "| | videos | killed: the command | with all its processes | a process of Ray's | jobs | "
        "equal to the undisturbed |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    titles = {
        "alone": "plain loop, 8 videos a shard",
        "alone-4": "plain loop, 4 videos a shard",
        "ray": "Ray, 4 videos a shard",
        "shared": "Ray, J-HMDB and real clips, 64 a shard",
    }
    records = {name: report_record(f"kills/{name}") for name in titles}
    for name, found in records.items():
        killed = [str(found["kills"].get(what, 0)) for what in ("driver", "machine", "worker")]
        cells = (*killed, str(found["jobs"]), str(found["equal_to_the_undisturbed"]))
        lines.append(f"| {titles[name]} | {found['videos']} | {' | '.join(cells)} |")
    last = records["ray"]
    total = sum(sum(found["kills"].values()) for found in records.values())
    said = (
        f"{total} kills in all; {hardware(last['environment'])}, {last['date'][:10]}; such as "
        f"`{last['command']}`, which was stopped for time after {last['jobs']} jobs."
    )
    return "\n".join([*lines, "", said, ""])
