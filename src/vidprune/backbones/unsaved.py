"""What transformers does not keep in a VideoMAE checkpoint, but its config records."""

from transformers import PreTrainedModel

from vidprune.backbones.positions import PositionRule, interpolated_table, sincos_table
from vidprune.backbones.registry import shape_of
from vidprune.layout import TokenGrid


def restore_unsaved(model: PreTrainedModel, positions: PositionRule) -> None:
    """Put back the norm's epsilon (`fc_norm_eps`) and the stretched table of positions.

    With "recompute" the table stays the one that transformers computed for the clip. See
    Note [position grid].
    """
    config = model.config
    epsilon, norm = getattr(config, "fc_norm_eps", None), getattr(model, "fc_norm", None)
    if epsilon is not None and norm is not None:
        norm.eps = epsilon
    trained = getattr(config, "position_grid", None)
    if trained is not None and positions == "recompute":
        del config.position_grid
    elif trained is not None:
        source = TokenGrid(frames=trained[0], rows=trained[1], columns=trained[2])
        table = sincos_table(source.tokens, config.hidden_size)
        model.base_model.embeddings.position_embeddings = interpolated_table(
            table, source=source, target=shape_of(config).grid
        )
