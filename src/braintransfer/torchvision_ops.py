"""Lets torchvision be imported beside a torch of another build; imported before timm and segmentation-models-pytorch.

torchvision's compiled part on the package registry wants CUDA. Beside a CPU-only torch it does not load, and
torchvision then stops at import with "operator torchvision::nms does not exist", though nothing here detects boxes.
Declaring the two operators (name and types, no code) is all that its Python part asks for. Where the compiled part
loads, nothing is declared.
"""

from __future__ import annotations

import importlib
import sys

import torch

_MISSING = "torchvision::nms does not exist"
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_torchvision() -> torch.library.Library | None:
    """Import torchvision; declare its missing operators when, and only when, it stops for want of them.

    Returns the library that holds the declarations (they live as long as it does), or None where none was needed.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if _MISSING not in str(error):
            raise
    else:
        return None
    for name in [n for n in sys.modules if n.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in _OPERATORS:
        library.define(operator)
    importlib.import_module("torchvision")
    return library


DECLARED = import_torchvision()
