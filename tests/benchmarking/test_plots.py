"""The figures: what stands where, that it can be read, and that a record always gives the same."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from benchmark_record import DENSE_MS, record
from vidprune.benchmarking import plots
from vidprune.benchmarking.plots import draw
from vidprune.benchmarking.report import Benchmark


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer dots, for speed."""
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: save(self, *a, **k | {"dpi": 50}))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Figures by the names of their files; nothing is written."""

    def make(found: Benchmark) -> dict[str, Figure]:
        seen: dict[str, Figure] = {}
        monkeypatch.setattr(
            plots, "_written", lambda figure, stem: seen.setdefault(stem.name, figure) and []
        )
        assert draw(found, tmp_path) == []
        return seen

    return make


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_label() != "secondary"]


def bars(axes: Axes) -> dict[str, list[tuple[float, float, float, float]]]:
    """By label: x, middle, low and high of each point."""
    found = {}
    for container in axes.containers:
        line, _, (vertical,) = container
        ends = [segment[:, 1] for segment in vertical.get_segments()]
        found[container.get_label()] = [
            (x, y, *end) for x, y, end in zip(*line.get_data(), ends, strict=True)
        ]
    return found


def words(figure: Figure) -> str:
    texts = [figure.get_suptitle()]
    texts += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [axes.get_title(loc="left"), axes.get_xlabel(), axes.get_ylabel()]
    return "\n".join(texts)


# --- files --------------------------------------------------------------------------------------


def test_two_kinds_of_file_for_each_figure(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    written = draw(record(batches=(8,)), folder)
    names = [
        f"{name}.{kind}"
        for name in ("throughput", "agreement", "end-to-end")
        for kind in ("svg", "png")
    ]
    assert written == [folder / name for name in names]
    assert sorted(folder.iterdir()) == sorted(written)
    for path in written:
        if path.suffix == ".png":
            assert len(Image.open(path).convert("L").getextrema()) == 2
        else:
            assert path.read_text(encoding="utf-8").startswith("<?xml")


def test_the_same_record_gives_the_same_files(tmp_path: Path) -> None:
    found = record(batches=(8,), videos=False)
    first, second = (draw(found, tmp_path / name) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_settings_of_matplotlib_stay_as_they_were(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    draw(record(batches=(8,), videos=False), tmp_path)
    assert dict(matplotlib.rcParams) == before


def test_without_matplotlib_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        RuntimeError, match=r"plots need matplotlib; pip install 'vidprune\[plots\]'"
    ):
        draw(record(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_videos_there_is_throughput_alone(drawn: Any) -> None:
    assert list(drawn(record(videos=False))) == ["throughput"]


def test_what_has_nothing_to_compare_is_not_drawn(drawn: Any) -> None:
    found = record(videos=False)
    assert drawn(replace(found, rows=())) == {}
    assert drawn(replace(found, rows=found.rows[:1])) == {}
    failed = tuple(replace(row, speed=None, reason="no room") for row in found.rows)
    assert drawn(replace(found, rows=failed)) == {}


def test_models_and_dtypes_have_figures_of_their_own(drawn: Any) -> None:
    found = record()
    other = tuple(
        replace(row, setting=replace(row.setting, dtype="fp32"), contest=row.contest + 2)
        for row in found.rows
    )
    figures = drawn(replace(found, rows=found.rows + other))
    names = ("throughput", "agreement", "end-to-end")
    assert list(figures) == [f"{name}-{number}" for number in (1, 2) for name in names]
    assert "bf16" in words(figures["agreement-1"])
    assert "fp32" in words(figures["agreement-2"])


# --- what stands where --------------------------------------------------------------------------


def test_speed_ups_with_their_quartiles_over_the_arithmetic_left(drawn: Any) -> None:
    figure = drawn(record())["throughput"]
    for axes in panels(figure):
        found = bars(axes)
        gains = [DENSE_MS / (1.25 * (DENSE_MS * x / 100 + 20)) for x in (90, 80, 30)]
        wanted = [(x, g, 0.95 * g, 1.1 * g) for x, g in zip((90, 80, 30), gains, strict=True)]
        assert found["sta"] == [pytest.approx(point) for point in wanted]
        assert [point[0] for point in found["dense, smaller model"]] == [pytest.approx(35)]
        assert [point[0] for point in found["dense"]] == [100]
        assert "dense, fewer views" not in found


def test_the_bound_is_a_thin_line_through_what_was_asked_for(drawn: Any) -> None:
    axes = panels(drawn(record())["throughput"])[0]
    (bound,) = [line for line in axes.lines if "arithmetic alone" in str(line.get_label())]
    x, y = bound.get_data()
    assert list(x) == pytest.approx([30, 80, 90, 100])
    assert list(y) == pytest.approx([100 / share for share in x])
    assert bound.get_linewidth() < 1


def test_modes_stand_under_each_other_and_batches_beside(drawn: Any) -> None:
    figure = drawn(record(modes=("eager", "graph")))["throughput"]
    titles = [axes.get_title(loc="left") for axes in panels(figure)]
    assert [title.partition(":")[0] for title in titles] == [
        "batch 1, eager",
        "batch 8, eager",
        "batch 1, graph",
        "batch 8, graph",
    ]
    # The best dense one, in whatever mode.
    assert all("dense at best 2.5 clips/s" in title for title in titles)
    assert len({axes.get_ylim() for axes in panels(figure)}) == 1
    eager, graph = (bars(axes)["dense in this mode"][0][1] for axes in panels(figure)[::2])
    assert (eager, graph) == (pytest.approx(0.8), pytest.approx(1))


def test_agreement_and_divergence_with_their_intervals(drawn: Any) -> None:
    same, moved = panels(drawn(record())["agreement"])
    assert bars(same)["sta"] == [
        pytest.approx(point) for point in ((90, 90, 85, 94), (80, 80, 75, 84), (30, 30, 25, 34))
    ]
    assert [point[:2] for point in bars(same)["dense, fewer views"]] == [
        pytest.approx((100 / 3, 100 / 3))
    ]
    assert moved.get_yscale() == "log"
    assert bars(moved)["random"][0][:2] == pytest.approx((79, 0.1 / 0.79 - 0.1))
    # Bars that reach down to nothing do not press the rest to the ceiling.
    assert moved.get_ylim()[0] > 0.001


def test_exactly_the_dense_model_has_no_place_among_logarithms(drawn: Any) -> None:
    found = record()

    def exact(row: Any) -> Any:
        if row.nearness is None or row.setting.reducer != "sta:r=8":
            return row
        none = replace(row.nearness.kl_nats, value=0.0)
        return replace(row, nearness=replace(row.nearness, kl_nats=none))

    same, moved = panels(drawn(replace(found, rows=tuple(map(exact, found.rows))))["agreement"])
    assert len(bars(same)["sta"]) == 3
    assert len(bars(moved)["sta"]) == 2


def test_videos_per_second_between_the_slowest_and_the_fastest_pass(drawn: Any) -> None:
    (axes,) = panels(drawn(record())["end-to-end"])
    found = bars(axes)
    assert found["dense"] == [pytest.approx((100, 2, 1.6, 2.5))]
    assert found["dense, fewer views"] == [pytest.approx((100 / 3, 6, 4.8, 7.5))]


@pytest.mark.parametrize(("rate", "shown"), [(14.0, True), (70.0, False)])
def test_decoding_is_drawn_where_it_is_in_sight(drawn: Any, rate: float, shown: bool) -> None:
    found = record()
    rows = tuple(
        replace(row, end_to_end=replace(row.end_to_end, decoding_videos_per_second=rate))
        if row.end_to_end
        else row
        for row in found.rows
    )
    figure = drawn(replace(found, rows=rows))["end-to-end"]
    (axes,) = panels(figure)
    assert any("decoding" in str(line.get_label()) for line in axes.lines) is shown
    assert bool(axes.get_ylim()[1] > rate) is shown
    assert f"decoding alone {rate:g} videos/s" in words(figure)


# --- that it can be read ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def every_figure(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Figure]:
    """All of a large record, laid out."""
    seen: dict[str, Figure] = {}

    def keep(figure: Figure, stem: Path) -> list[Path]:
        figure.canvas.draw()
        seen[stem.name] = figure
        return []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "_written", keep)
        draw(record(modes=("eager", "blocks")), tmp_path_factory.mktemp("plots"))
    return seen


@pytest.mark.parametrize("name", ["throughput", "agreement", "end-to-end"])
def test_the_title_names_model_dtype_hardware_and_what_bars_are(
    every_figure: dict[str, Figure], name: str
) -> None:
    said = words(every_figure[name])
    for word in ("big, 16x224x224, bf16", "A CPU, 3 threads, torch 2.99, 2026-01-02", "bars: "):
        assert word in said
    assert "on top: r of sta" in said
    assert ("40 videos, 15 views of each" in said) is (name != "throughput")
    for axes in panels(every_figure[name]):
        views = "100 % = 180)" if name == "throughput" else "100 % = 15 x 180)"
        assert views in axes.get_xlabel()


@pytest.mark.parametrize("name", ["throughput", "agreement", "end-to-end"])
def test_nothing_is_cut_off_and_nothing_covers_the_data(
    every_figure: dict[str, Figure], name: str
) -> None:
    figure = every_figure[name]
    (legend,) = figure.legends
    whole, below = figure.bbox, legend.get_window_extent()
    title = figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
    for box in (below, title, *(axes.get_tightbbox() for axes in figure.axes)):
        assert whole.x0 - 1 <= box.x0
        assert box.x1 <= whole.x1 + 1
        assert whole.y0 - 1 <= box.y0
        assert box.y1 <= whole.y1 + 1
    for axes in panels(figure):
        assert below.y1 <= axes.get_tightbbox().y0 + 1
        assert axes.get_tightbbox().y1 <= title.y0 + 1


@pytest.mark.parametrize("name", ["throughput", "agreement", "end-to-end"])
def test_every_point_and_its_bar_lie_inside(every_figure: dict[str, Figure], name: str) -> None:
    for axes in panels(every_figure[name]):
        (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
        assert left > 100 > right, "arithmetic falls to the right"
        for points in bars(axes).values():
            for x, middle, low, high in points:
                assert left >= x >= right
                assert bottom <= middle <= high <= top
                assert axes.get_yscale() == "log" or bottom <= low


@pytest.mark.parametrize("name", ["throughput", "agreement", "end-to-end"])
def test_what_was_asked_for_stands_on_top_in_the_order_of_numbers(
    every_figure: dict[str, Figure], name: str
) -> None:
    for axes in panels(every_figure[name]):
        (top,) = axes.child_axes
        ticks = {
            tick.get_text(): place
            for tick, place in zip(top.get_xticklabels(), top.get_xticks(), strict=True)
        }
        assert ticks == {"8": pytest.approx(90), "16": pytest.approx(80), "128": pytest.approx(30)}


def test_colours_are_the_same_in_all_figures(every_figure: dict[str, Figure]) -> None:
    colours: dict[str, set[Any]] = {}
    for figure in every_figure.values():
        for axes in panels(figure):
            for container in axes.containers:
                colours.setdefault(container.get_label(), set()).add(container[0].get_color())
    assert all(len(found) == 1 for found in colours.values())


def renamed(found: Benchmark, checkpoint: str, reducer: str) -> Benchmark:
    def rename(row: Any) -> Any:
        own = row.setting
        named = replace(
            own,
            checkpoint=checkpoint if own.checkpoint == "big" else own.checkpoint,
            reducer=own.reducer.replace("random", reducer),
        )
        return replace(row, setting=named)

    return replace(found, rows=tuple(map(rename, found.rows)))


def test_names_are_no_formulas(tmp_path: Path) -> None:
    found = renamed(record(batches=(8,), videos=False), "a$\\model$_{x}", "$\\x")
    (svg, _) = draw(found, tmp_path)
    assert svg.stat().st_size > 10_000


def test_long_names_keep_their_end_and_find_room(drawn: Any) -> None:
    long = "random:proportional_attention=true,stages=3,blocks=0/4/8,schedule=decreasing,fold=true"
    figure = drawn(renamed(record(), "/somewhere" * 20 + "/model", long))["end-to-end"]
    figure.canvas.draw()
    assert "somewhere/model, 16x224x224" in figure.get_suptitle()
    assert max(map(len, figure.get_suptitle().splitlines())) < 100
    (legend,) = figure.legends
    assert long.replace(",", "") in words(figure).replace(",", "").replace("\n", "").replace(
        " ", ""
    )
    assert legend.get_window_extent().x1 <= figure.bbox.x1 + 1
