"""Losses on embeddings of length 1.

Conventions
-----------
Embeddings are ``(n, dim)``, classes ``(n,)`` whole numbers from 0. A loss is a mean over the embeddings.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional


def sub_center_cosines(embeddings: Tensor, centers: Tensor) -> Tensor:
    """Cosine of each embedding to the nearest sub-center of each class.

    Parameters
    ----------
    embeddings : (n, dim) tensor
        Of length 1.
    centers : (classes, sub-centers, dim) tensor
        Of any length.

    Returns
    -------
    (n, classes) tensor
    """
    directions = functional.normalize(centers, dim=-1)
    return torch.einsum("nd,ckd->nck", embeddings, directions).amax(dim=-1)


def with_margin(cosines: Tensor, margin: float) -> Tensor:
    """``cos(theta + margin)`` from ``cos(theta)``.

    Where ``theta + margin`` is more than pi the cosine would rise again; there it is ``cos(theta) - margin *
    sin(margin)``, as in the authors' implementation, so that the loss keeps pulling.
    """
    sines = (1 - cosines.square()).clamp(min=torch.finfo(cosines.dtype).eps).sqrt()
    turned = cosines * math.cos(margin) - sines * math.sin(margin)
    return torch.where(cosines > -math.cos(margin), turned, cosines - margin * math.sin(margin))


def sub_center_arcface(
    embeddings: Tensor, centers: Tensor, classes: Tensor, *, scale: float, margin: float
) -> Tensor:
    """Sub-center ArcFace: the angle to the own class must be smaller than others by a margin.

    J. Deng et al., "ArcFace: Additive angular margin loss for deep face recognition," Proc. CVPR, 2019, equation
    3; J. Deng et al., "Sub-center ArcFace: Boosting face recognition by large-scale noisy web faces," Proc. ECCV,
    2020, for the nearest of several centers a class.

    Parameters
    ----------
    embeddings : (n, dim) tensor
        Of length 1.
    centers : (classes, sub-centers, dim) tensor
    classes : (n,) tensor
    scale, margin : float
        Of the cosines, and in radians.
    """
    cosines = sub_center_cosines(embeddings, centers)
    is_own = functional.one_hot(classes, len(centers)).bool()
    return functional.cross_entropy(
        scale * torch.where(is_own, with_margin(cosines, margin), cosines), classes
    )


def center_loss(embeddings: Tensor, centers: Tensor, classes: Tensor) -> Tensor:
    """Half the mean squared distance of embeddings from the learnt center of their class.

    Y. Wen et al., "A discriminative feature learning approach for deep face recognition," Proc. ECCV, 2016,
    equation 2, as a mean instead of a sum.

    Parameters
    ----------
    embeddings : (n, dim) tensor
    centers : (classes, dim) tensor
    classes : (n,) tensor
    """
    return (embeddings - centers[classes]).square().sum(dim=-1).mean() / 2
