"""Which reducers are tested on which models, and which must be refused there.

Data alone: `test_every_reducer` tests what stands here, and the table in the README is made of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import fill

from vidprune.layout import TokenGrid


@dataclass(frozen=True)
class Row:
    """A reducer as the tests call it.

    `specs`: its options, as text, each at work somewhere; all fit the grids of plain ViTs, or stand
    in `TOO_SHORT`. `amount`: text in which a number of tokens is put for `#`; 0 must be the dense
    model. `capped`: too large an amount is cut down as documented, and not refused.
    """

    specs: tuple[str, ...]
    amount: str
    capped: bool = False


ROWS = {
    "sta": Row(
        specs=(
            "sta:r=3",
            "sta:r=3,fold=true",
            "sta:r=3,fold=true,proportional_attention=true",
            "sta:r=4,first_group=grid,seed=2",
            "sta:schedule=2/5,order=BF,similarity=output,score=temporal",
            "sta:r=1,schedule=increasing,similarity=value,score=semantic,first_group=random,"
            "backend=torch",
            "sta:r=3,blocks=1/3",
        ),
        amount="sta:r=#",
    ),
    "random": Row(
        specs=(
            "random:r=3",
            "random:r=2,schedule=constant,blocks=0/1/3,seed=7",
            "random:r=3,fold=true,proportional_attention=true",
        ),
        amount="random:r=#",
    ),
    "grid": Row(
        specs=(
            "grid:r=3",
            "grid:schedule=3/2,places=random,blocks=1/3,seed=5",
            "grid:r=4,fold=true,proportional_attention=true",
        ),
        amount="grid:r=#",
    ),
    "tome": Row(
        specs=(
            "tome:r=5",
            "tome:r=5,proportional_attention=true",
            "tome:r=5,schedule=decreasing",
            "tome:schedule=0/9/0/3",
            "tome:r=5,mode=drop",
        ),
        amount="tome:r=#",
        capped=True,
    ),
    "run-length": Row(
        specs=(
            "run-length:r=3",
            "run-length:r=3,fold=true,proportional_attention=true",
            "run-length:threshold=1.12",
            "run-length:threshold=1.12,fold=true,proportional_attention=true",
        ),
        amount="run-length:r=#",
    ),
    "vid-tldr": Row(
        specs=(
            "vid-tldr:r=5",
            "vid-tldr:r=7/0/5,blocks=0/1/3",
            "vid-tldr:r=5,proportional_attention=false",
        ),
        amount="vid-tldr:r=#",
        capped=True,
    ),
    "ward": Row(
        specs=(
            "ward:r=2",
            "ward:r=8",
            "ward:r=2,where=before,blocks=0/3",
            "ward:schedule=1/0/1,rounds=1,proportional_attention=false,backend=torch",
        ),
        amount="ward:r=#",
    ),
}

SPECS = tuple(spec for row in ROWS.values() for spec in row.specs)


def reducer_of(spec: str) -> str:
    """The name of a reducer that a text begins with."""
    return spec.partition(":")[0]


# What an attention can do with.


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a kind of attention carries, and what it cannot.

    `works`: specs, the first of a reducer for graphs too, the last for encoders too. `refused`:
    specs by a pattern of what is said. `amounts`: as `Row.amount`, where another is meant.
    `limits`: by reducer, under which condition it works; `reason`: why the others do not.
    """

    works: tuple[str, ...]
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    amounts: Mapping[str, str] = field(default_factory=dict)
    limits: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


_SHAPES = {
    "run-length": "In graphs with `r`; with a threshold, how many tokens stay depends on the clip."
}
ALL = Rule(works=SPECS, limits=_SHAPES)
ANY_TOKENS = Rule(
    works=(
        "sta:r=3",
        "sta:r=4,fold=true,proportional_attention=true,similarity=value",
        "random:r=3,fold=true",
        "random:r=2,blocks=0/1/3",
        "grid:r=3",
        "grid:r=4,fold=true,proportional_attention=true",
        "tome:r=5",
        "tome:r=5,proportional_attention=true",
        "run-length:r=3",
        "run-length:threshold=1.12,fold=true,proportional_attention=true",
        "vid-tldr:r=5,proportional_attention=false",
        "vid-tldr:r=5",
        "ward:r=2",
        "ward:r=2,where=before,blocks=0/3",
    ),
    limits=_SHAPES,
)
_ONE_STAGE = "One stage, by frames: `sta:r=64,stages=1`."
PER_FRAME = Rule(
    works=(
        "sta:r=3,stages=1",
        "sta:schedule=4/,blocks=1/,fold=true,proportional_attention=true",
        "random:r=3,stages=1",
        "random:r=3,stages=1,fold=true",
        "grid:r=3",
        "grid:r=4,fold=true,proportional_attention=true",
    ),
    refused={
        "attends within frames, and needs as many tokens in each: choose grid": (
            "sta:r=3",
            "sta:schedule=0/5,fold=true",
            "random:r=3,fold=true",
            "tome:r=5",
            "tome:r=5,mode=drop",
            "run-length:r=3",
            "run-length:threshold=1.12",
            "vid-tldr:r=5",
            "ward:r=2",
        )
    },
    amounts={"sta": "sta:r=#,stages=1", "random": "random:r=#,stages=1"},
    limits={"sta": _ONE_STAGE, "random": _ONE_STAGE},
    reason="Frames do not see each other, so as many tokens have to stay in each.",
)
TUBES = Rule(
    works=(
        "grid:r=3",
        "grid:schedule=3/2,places=random,blocks=1/3,seed=5",
        "grid:r=4,fold=true,proportional_attention=true",
    ),
    refused={
        "attends along time at each place, and needs the same places in every frame": (
            "sta:r=3",
            "sta:r=3,stages=1",
            "random:r=3,stages=1,fold=true",
            "tome:r=5",
            "run-length:r=3",
            "run-length:threshold=1.12",
            "vid-tldr:r=5",
            "ward:r=2",
        )
    },
    reason="Attention runs along time at each place, so the same places have to stay in every "
    "frame: `grid` keeps such tubes.",
)
_MERGING = "Without `blocks` and `proportional_attention`: tokens go where patches merge."
PYRAMID = Rule(
    works=(
        "sta:r=4",
        "sta:r=3",
        "sta:r=4,gaps=filled",
        "sta:schedule=8/2,order=BF,similarity=output,first_group=random",
        "sta:r=8,fold=true",
        "random:r=4",
        "random:r=4,gaps=filled",
        "random:r=3,fold=true",
        "grid:r=4",
        "grid:r=4,gaps=filled",
        "grid:schedule=8/2,places=random,seed=1,fold=true",
    ),
    refused={
        "merges its tokens between levels and attends in windows": (
            "tome:r=5",
            "run-length:r=3",
            "run-length:threshold=1.12",
            "vid-tldr:r=5",
            "ward:r=2",
            "sta:r=3,fold=true,proportional_attention=true",
            "random:r=3,fold=true,proportional_attention=true",
            "grid:r=4,fold=true,proportional_attention=true",
        ),
        "blocks=.* cannot be chosen in a model whose tokens merge": ("sta:r=3,blocks=0/1/2",),
        "stages=1 does not fit a model whose tokens merge 2 times": ("random:r=3,stages=1",),
        "schedule='constant' has no meaning": ("grid:r=3,schedule=constant",),
        "lists 3 numbers, but the model's tokens merge 2 times": ("sta:schedule=3/2/1",),
    },
    limits={"sta": _MERGING, "random": _MERGING, "grid": _MERGING},
    reason="Windows have to be filled alike, and patches merge: tokens may only go from each frame "
    "as many, and where patches merge.",
)


# The families.


@dataclass(frozen=True, kw_only=True)
class Grids:
    """On which a family is tested: the usual one, two that divide by little, and one frame."""

    usual: TokenGrid
    awkward: tuple[TokenGrid, TokenGrid]
    one_frame: TokenGrid

    @property
    def all(self) -> tuple[TokenGrid, ...]:
        """All four."""
        return (self.usual, self.one_frame, *self.awkward)


def _grid(frames: int, rows: int, columns: int) -> TokenGrid:
    return TokenGrid(frames=frames, rows=rows, columns=columns)


OBLONG = Grids(
    usual=_grid(4, 4, 4), awkward=(_grid(7, 5, 3), _grid(3, 1, 11)), one_frame=_grid(1, 4, 5)
)
SQUARE = Grids(
    usual=_grid(4, 4, 4), awkward=(_grid(7, 3, 3), _grid(3, 5, 5)), one_frame=_grid(1, 4, 4)
)
# Of the first level, whose sides are halved twice. Windows of 3 x 3 fit the usual one and no other:
# elsewhere gaps are filled.
LARGER = Grids(
    usual=_grid(4, 12, 12), awkward=(_grid(5, 7, 5), _grid(3, 11, 9)), one_frame=_grid(1, 8, 9)
)


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family as it is tested: its name in tables, what it carries, and on which grids. `encoder`
    is what its bare encoder carries."""

    title: str
    rule: Rule
    encoder: Rule
    grids: Grids


def _family(title: str, rule: Rule, grids: Grids, encoder: Rule | None = None) -> Family:
    return Family(title=title, rule=rule, encoder=encoder or rule, grids=grids)


FAMILIES = {
    "videomae": _family("VideoMAE, VideoMAE V2", ALL, OBLONG, ANY_TOKENS),
    "vivit": _family("ViViT", ANY_TOKENS, OBLONG),
    "vjepa2": _family("V-JEPA 2", ANY_TOKENS, SQUARE),
    "timesformer-joint": _family("TimeSformer, joint", ANY_TOKENS, SQUARE),
    "timesformer-space": _family("TimeSformer, space only", PER_FRAME, SQUARE),
    "timesformer-divided": _family("TimeSformer, divided", TUBES, SQUARE),
    "videoprism": _family("VideoPrism", TUBES, OBLONG),
    "videoswin": _family("VideoSwin", PYRAMID, LARGER),
}


@dataclass(frozen=True)
class Model:
    """A model of the tests: a family's classifier, or its bare encoder."""

    family: str
    head: bool = True

    def __str__(self) -> str:
        return self.family if self.head else f"{self.family}-encoder"

    @property
    def rule(self) -> Rule:
        """What it carries."""
        family = FAMILIES[self.family]
        return family.rule if self.head else family.encoder

    @property
    def grids(self) -> Grids:
        """On which it is tested."""
        return FAMILIES[self.family].grids

    @property
    def specs(self) -> tuple[str, ...]:
        """Which are tested on it. Encoders differ by their ends alone: one for each reducer."""
        works = self.rule.works
        return works if self.head else tuple({reducer_of(spec): spec for spec in works}.values())

    def amount(self, reducer: str) -> str:
        """Text in which a number of tokens is put for `#`."""
        return self.rule.amounts.get(reducer, ROWS[reducer].amount)


Pair = tuple[Model, str]
CLASSIFIERS = tuple(Model(family) for family in FAMILIES)
ENCODERS = tuple(Model(family, head=False) for family in FAMILIES)
MODELS = CLASSIFIERS + ENCODERS

# What must work, and what must be refused when it is planned.
PAIRS: tuple[Pair, ...] = tuple((model, spec) for model in MODELS for spec in model.specs)
REFUSED = tuple(
    (model, spec, words)
    for model in MODELS
    for words, specs in model.rule.refused.items()
    for spec in specs
)
# (There is one temporal position, and the first stays whole.)
TOO_SHORT = tuple(
    (model, spec, model.grids.one_frame)
    for model, spec in PAIRS
    if spec.startswith("run-length:r=")
)
# By amount: a reducer on every model that carries it.
AMOUNTS = tuple(
    (model, name)
    for model in MODELS
    for name in dict.fromkeys(reducer_of(spec) for spec in model.specs)
)


def _first(model: Model) -> tuple[str, ...]:
    """One for each reducer, whose shapes are static and for which few blocks are enough."""
    named: dict[str, str] = {}
    for spec in model.rule.works:
        named.setdefault(reducer_of(spec), spec)
    return tuple(named.values())


# As graphs. Export traces a forward as compilation does: it alone goes through more.
_FILLED = (Model("videoswin"), "sta:r=4,gaps=filled")
COMPILED: tuple[Pair, ...] = (
    *((model, spec) for model in CLASSIFIERS for spec in _first(model)),
    _FILLED,
)
EXPORTED: tuple[Pair, ...] = (
    *COMPILED,
    *((model, _first(model)[0]) for model in ENCODERS),
    *(
        (CLASSIFIERS[0], spec)
        for spec in (
            "sta:r=4,first_group=grid,seed=2",
            "run-length:r=3,fold=true,proportional_attention=true",
        )
    ),
)


def on_grids(pairs: tuple[Pair, ...]) -> tuple[tuple[Model, str, TokenGrid], ...]:
    """With the grids on which they become graphs: gaps are filled also where windows reach over
    the edge and hold padding."""
    reaching = tuple((*pair, pair[0].grids.awkward[0]) for pair in pairs if pair == _FILLED)
    return (*((*pair, pair[0].grids.usual) for pair in pairs), *reaching)


# The table of the README.


def support_table() -> str:
    """Families by reducers: what is tested of each, in Markdown, with footnotes."""
    notes: list[str] = []
    lines = [
        f"| model | {' | '.join(f'`{name}`' for name in ROWS)} |",
        "|---|" + "---|" * len(ROWS),
        *(f"| {family.title} | {_cells(key, notes)} |" for key, family in FAMILIES.items()),
    ]
    legend = (
        "c: classifier; f: features, of the model without its head; g: one graph under "
        "`torch.compile`; e: `torch.export` and ONNX with any batch; -: refused by `prune`, with "
        "the reason. Made from the tables that the tests run over."
    )
    numbered = [f"({number}) {note}" for number, note in enumerate(notes, 1)]
    below = [fill(legend, 100), "", *(fill(note, 100) + "<br>" for note in numbered)]
    return "\n".join([*lines, "", *below, ""])


def _cells(family: str, notes: list[str]) -> str:
    return " | ".join(_cell(family, name, notes) for name in ROWS)


def _cell(family: str, reducer: str, notes: list[str]) -> str:
    """What is tested, and the number of the footnote that limits or refuses it."""
    rule, tested = FAMILIES[family].rule, _tested(family, reducer)
    note = rule.limits.get(reducer, "") if tested else rule.reason
    if not note:
        return tested
    if note not in notes:
        notes.append(note)
    return f"{tested or '-'} ({notes.index(note) + 1})"


def _tested(family: str, reducer: str) -> str:
    lists = {
        "c": [pair for pair in PAIRS if pair[0].head],
        "f": [pair for pair in PAIRS if not pair[0].head],
        "g": COMPILED,
        "e": EXPORTED,
    }
    found = [
        letter
        for letter, pairs in lists.items()
        if any(model.family == family and reducer_of(spec) == reducer for model, spec in pairs)
    ]
    return " ".join(found)
