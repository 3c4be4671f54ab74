"""One batch of clips, each answered by the setting that its content asks for."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidprune.model import per_clip
from vidprune.reducers.by_content import ByContent

Answer = Callable[[Tensor, Tensor | None], Tensor]


def answer_by_content(
    by_content: ByContent,
    models: Sequence[Answer],
    clips: Tensor,
    seen: Callable[[], Tensor],
    clip_keys: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Logits of clips (B, T, 3, H, W) and which setting each is from, (B,) int64.

    `models`: what answers clips with their keys (B,), one for each setting; `seen` gives the same
    clips by values in [0, 1], where they are asked for.
    """
    due: list[int | None] = [0] * len(clips)
    if not by_content.is_cascade:
        due = [*by_content.first(seen())]
    setting = torch.zeros(len(clips), dtype=torch.int64, device=clips.device)
    found: list[Tensor] = [clips.new_empty(0)] * len(clips)
    for number, answer in enumerate(models):
        chosen = [place for place, each in enumerate(due) if each == number]
        if not chosen:
            continue
        places = torch.tensor(chosen, device=clips.device)
        setting[places] = number
        logits = answer(clips[places], None if clip_keys is None else clip_keys[places])
        onward = by_content.next(number, per_clip(logits, len(chosen)))
        # Some models answer each clip in several rows.
        for place, rows, lane in zip(chosen, logits.chunk(len(chosen)), onward, strict=True):
            found[place], due[place] = rows, lane
    return torch.cat(found), setting
