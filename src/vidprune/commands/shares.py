"""What views cost, and with a budget by content of which settings they are."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedModel

from vidprune.macs import gmacs_by_setting, gmacs_per_view
from vidprune.reducers.spec import describe
from vidprune.report import SettingShare


def spent_on(model: PreTrainedModel, answered: Iterable[int | None]) -> dict[str, Any]:
    """`gmacs_per_view` and `settings` of a report, from the settings that answered its views."""
    views = Counter(answered)
    settings = getattr(model, "settings", ())
    return {
        "gmacs_per_view": gmacs_per_view(model, views.elements()),
        "settings": tuple(
            SettingShare(reducer=describe(each.reducer), views=views[number], gmacs_per_view=spent)
            for number, (each, spent) in enumerate(
                zip(settings, gmacs_by_setting(model) if settings else (), strict=True)
            )
        ),
    }
