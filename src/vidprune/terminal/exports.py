"""What was exported, and how it compares with the model."""

from pathlib import Path

from rich.box import SIMPLE
from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

from vidprune.exporting.record import ExportRecord
from vidprune.printable import shown


def export_table(record: ExportRecord, output: Path) -> Group:
    """One exported model: what it is, and what was checked."""
    table = Table(
        Column(""), Column("", overflow="fold"), box=SIMPLE, pad_edge=False, show_header=False
    )
    for name, said in _facts(record).items():
        table.add_row(name, Text(shown(said)))
    return Group(Text(f"{output}, {output.name}.json"), table)


def _facts(record: ExportRecord) -> dict[str, str]:
    check = record.check
    batch = "any" if record.batch is None else str(record.batch)
    opset = f", opset {record.opset}" if record.opset else ""
    videos = ", ".join(check.videos[:3]) + (", ..." if len(check.videos) > 3 else "")
    kept = f"{check.same_kept} of {len(check.videos)} clips"
    if check.near_ties:
        kept += f"; {check.near_ties} within rounding"
    if check.unjudged:
        kept += f"; {check.unjudged} others, whose answers agree"
    facts = {
        "model": f"{record.checkpoint}, {record.reducer}",
        "format": f"{record.format}{opset}, {record.quantized or record.dtype}",
        "takes": f"({', '.join(map(str, (batch, *record.clip_shape)))}), views "
        f"{record.protocol['segments']}x{record.protocol['crops']}",
        "GMACs of a view": f"{record.gmacs_per_view:.2f} of {record.gmacs_dense:.2f}",
        "compared on": videos,
        "same tokens stay": kept,
        "largest difference": f"{check.largest_difference:.1e} of the largest value",
    }
    if check.difference_together is not None:
        facts["beside other clips"] = (
            f"same tokens stay of {check.same_kept_together}, answers within "
            f"{check.difference_together:.1e}"
        )
    if record.reducer == "none":
        del facts["same tokens stay"]
    if check.same_class is not None:
        facts["same class"] = (
            f"{check.same_class} of {len(check.videos)}, KL at most {check.kl_nats:.1e}"
        )
    if record.obstacles is not None:
        refused = ", ".join(record.obstacles)
        facts["TensorRT's parser"] = (
            f"would refuse {refused}" if refused else "nothing known against it"
        )
    return facts
