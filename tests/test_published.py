"""The figures of the paper: told rightly, and such that they can be rerun."""

import pytest

from vidprune.backbones.architectures import ARCHITECTURES, architecture
from vidprune.macs import costs
from vidprune.published import TABLES
from vidprune.reducers.spec import NONE, parse

CELLS = [cell for cells in TABLES.values() for cell in cells]


@pytest.mark.parametrize("table", TABLES)
def test_every_figure_can_be_rerun_and_has_one_to_be_counted_from(table: str) -> None:
    for cell in TABLES[table]:
        assert cell.arch in ARCHITECTURES
        costs(architecture(cell.arch), cell.reducer)
        same = [other for other in TABLES[table] if other.series == cell.series]
        assert [other.reducer for other in same].count(NONE) == 1


def test_costs_are_the_published_ones() -> None:
    told = [cell for cell in CELLS if cell.gmacs is not None]
    assert len(told) == 45
    for cell in told:
        ours = costs(architecture(cell.arch), cell.reducer).gmacs_per_view
        assert abs(ours - cell.gmacs) <= cell.gmacs_tolerance <= 2.4


MODELS = {
    "ViT-S": "vit_small_patch16_224",
    "ViT-B": "vit_base_patch16_224",
    "ViT-L": "vit_large_patch16_224",
    "ViT-H": "vit_huge_patch16_224",
    "T": "swin3d_t",
    "S": "swin3d_s",
    "B": "swin3d_b",
    "B (SSv2 window)": "swin3d_b_ssv2",
}


def rows_of(text: str) -> list[list[str]]:
    """The cells of section 4's tables, a model's name put into rows that leave it out."""
    section = text.partition("## 4.")[2].partition("## 5.")[0]
    rows, name = [], ""
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == 6 and not set(cells[1]) <= {"-", ":"}:
            name = cells[0] or name
            rows.append([name, *cells[1:]])
    return [row for row in rows if row[0] in MODELS]


def figures(table: str, arch: str, data: str, name: str) -> list[float]:
    cells = [cell for cell in TABLES[table] if (cell.arch, cell.data) == (arch, data)]
    return [getattr(cell, name) for cell in cells]


def test_figures_are_those_of_the_paper_s_tables(shared) -> None:
    seen = 0
    for name, kind, *cells in rows_of(shared("sta.md").read_text("utf-8")):
        table = "table2" if name.startswith("ViT") else "table3"
        kinds = kind.split(" / ")
        for place, what in enumerate(kinds):
            told = [float(cell.split(" / ")[place]) for cell in cells]
            if what == "GFLOPs":
                for data in ("k400", "ssv2"):
                    ours = figures(table, MODELS[name], data, "gmacs")
                    assert ours in ([], told)
                    seen += len(ours)
            else:
                assert figures(table, MODELS[name], what.lower(), "top1") == told
                seen += len(told)
    # Accuracy and arithmetic of each cell.
    assert seen == 2 * (24 + 16)


def test_figures_are_those_of_the_paper_s_text(shared) -> None:
    text = shared("sta.md").read_text("utf-8")
    words = {
        "first group: random": "first group random {:.2f}",
        "first group: grid": "grid {:.2f}",
        "as it is": "bipartite drop {:.2f}",
        "order: B-F-B": "B-F-B {:.2f}",
        "order: F-F-F": "F-F-F {:.2f}",
        "order: B-B-B": "B-B-B {:.2f}",
        "similarity: query": "metric from Q {:.2f}",
        "similarity: value": "V {:.2f}",
        "similarity: FFN": "FFN {:.2f}",
        "schedule: constant": "constant (48 each) {:.2f}",
        "schedule: increasing": "increasing (27, 54, 108) {:.2f}",
        "two stages": "stages 2: {:.1f}",
        "four stages": "4: {:.1f}",
        "after blocks 2, 10, 18": "2,10,18: 339, {:.1f}",
        "after blocks 4, 12, 20": "4,12,20: 370, {:.1f}",
        "score: semantic": "{:.2f} / ",
        "score: temporal": " / {:.2f}",
        "score: both": " / {:.2f}",
    }
    cells = [cell for cell in TABLES["table6"] if cell.said != "dense"]
    assert {cell.said for cell in cells} == set(words)
    for cell in cells:
        assert words[cell.said].format(cell.top1) in text, cell
    views = TABLES["views"]
    for segments in (2, 4, 6, 8, 16):
        told = [f"{cell.top1:.2f}" for cell in views if cell.segments == segments]
        assert f"{segments}\N{MULTIPLICATION SIGN}3 {'/'.join(told)}" in text
    random = [f"{c.top1:g} (" for c in TABLES["fig5"] if c.read_off]
    assert all(figure in text for figure in random)
    assert len(random) == 3


def test_a_figure_that_stands_in_two_tables_is_one() -> None:
    """Typing errors show where the paper repeats itself, to the digits that it gives."""
    seen: dict[tuple, float] = {}
    repeated = 0
    for cell in CELLS:
        described = None if parse(cell.reducer) is None else repr(parse(cell.reducer))
        key = (cell.series, described)
        if key in seen:
            repeated += 1
            assert cell.top1 == pytest.approx(seen[key], abs=0.051)
        seen.setdefault(key, cell.top1)
    assert repeated >= 8
