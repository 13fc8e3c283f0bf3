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
    return all_cosines(embeddings, centers).amax(dim=-1)


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


def initial_scale(classes: int, sub_clusters: int) -> float:
    """The first scale of sub-cluster AdaCos: ``sqrt(2) log(classes * sub_clusters - 1)``.

    Raises
    ------
    ValueError
        If there are fewer than three sub-clusters in all, for which it is not above 0.
    """
    if classes * sub_clusters < 3:
        raise ValueError(
            f"classes={classes}, sub_clusters={sub_clusters}: AdaCos needs at least 3 sub-clusters in all"
        )
    return math.sqrt(2) * math.log(classes * sub_clusters - 1)


def all_cosines(embeddings: Tensor, centers: Tensor) -> Tensor:
    """Cosine of each embedding to every sub-cluster of each class.

    Parameters
    ----------
    embeddings : (n, dim) tensor
        Of length 1.
    centers : (classes, sub-clusters, dim) tensor
        Of any length.

    Returns
    -------
    (n, classes, sub-clusters) tensor
    """
    return torch.einsum("nd,ckd->nck", embeddings, functional.normalize(centers, dim=-1))


def sub_cluster_adacos(cosines: Tensor, labels: Tensor, *, scale: Tensor | float) -> Tensor:
    """Sub-cluster AdaCos: the softmax of all sub-clusters, added up by class, against labels that may be mixed.

    K. Wilkinghoff, "Sub-cluster AdaCos: Learning representations for anomalous sound detection," Proc. IJCNN,
    2021. A class may be several directions: an embedding has to be near one of them, and it does not matter which.

    Parameters
    ----------
    cosines : (n, classes, sub-clusters) tensor
        As of ``all_cosines``.
    labels : (n, classes) tensor
        The share of each class in each embedding; they add up to 1.
    scale : tensor or float
        Of the cosines; see ``adaptive_scale``.
    """
    logits = scale * cosines
    of_classes = logits.logsumexp(dim=-1) - logits.flatten(1).logsumexp(dim=-1, keepdim=True)
    return -(labels * of_classes).sum(dim=-1).mean()


def adaptive_scale(cosines: Tensor, labels: Tensor, *, scale: Tensor | float) -> Tensor:
    r"""The next scale of sub-cluster AdaCos, from a batch and the scale before.

    X. Zhang et al., "AdaCos: Adaptively scaling cosine logits for effectively learning deep face representations,"
    Proc. CVPR, 2019, with the sum of Wilkinghoff's code:

    .. math:: s' = \frac{\log \frac{1}{N} \sum_i \sum_{c,k} \exp(s \cos\theta_{ick})}
                       {\cos \min(\pi / 4, \theta_\mathrm{med})}.

    The sum is over the sub-clusters of all classes. It contains those of the own class, because mixed embeddings
    have several. The angle of an embedding is that to the nearest sub-cluster of its class, or the mean of several,
    weighted by its labels; :math:`\theta_\mathrm{med}` is the median of these angles, the lower one of two.
    Wilkinghoff's code adds up the angles to all sub-clusters of a class instead. With 16 of them the sum is hardly
    ever below :math:`\pi / 4`, so that the divisor is a constant there.

    Parameters
    ----------
    cosines, labels, scale
        As of ``sub_cluster_adacos``.

    Returns
    -------
    () tensor
        Without gradients.
    """
    with torch.no_grad():
        mean = (scale * cosines).flatten().logsumexp(dim=0) - math.log(len(cosines))
        angles = (cosines.amax(dim=-1).clamp(-1, 1).arccos() * labels).sum(dim=-1)
        return mean / angles.median().clamp(max=math.pi / 4).cos()
