"""What single tokens are told: how what they show moves, and of which action it is a part."""

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

# Pixels from one frame of a clip to the next: what would move farther was mostly not followed but
# lost, and is told to move so far.
FARTHEST = 12.0


def flow_of(clip: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
    """Optical flow inside each tubelet of a clip (T, 3, S, S): (T / 2, S, S, 2), x before y.

    By dense inverse search (Kroeger et al., ECCV 2016), of the clip as the model sees it, so that
    crops, mirrors and turns need no thought.
    """
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame.transpose(1, 2, 0), cv2.COLOR_RGB2GRAY) for frame in clip]
    flows = [search.calc(grey[k], grey[k + 1], None) for k in range(0, len(grey), 2)]
    return np.stack(flows).clip(-FARTHEST, FARTHEST).astype(np.float16)


def flow_error(told: Tensor, flow: Tensor) -> Tensor:
    """Of the motion (B, K, 2) that tokens tell, in pixels per frame."""
    return smooth_l1_loss(told, flow, beta=0.3)


def parts_error(told: Tensor, targets: Tensor, flow: Tensor) -> Tensor:
    """Cross entropy of the classes (B, K, classes) that tokens tell with their clip's (B, classes).

    Tokens count by how much their motion (B, K, 2) departs from the clip's usual one: the actor's
    more than the background's, whatever the camera does.
    """
    apart = (flow - flow.median(1, keepdim=True).values).norm(dim=-1)
    weight = (apart / 1.5).clamp(0.1, 1)
    error = -(targets[:, None] * told.log_softmax(-1)).sum(-1)
    return (error * weight).sum() / weight.sum()
