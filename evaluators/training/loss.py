"""What a student of distillation is judged by. Knows answers of two models and labels; knows no models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from evaluators.problems.base import Problem
from evaluators.problems.classes import CLASSIFICATION
from evaluators.training.teacher import Answers

LayerMap: TypeAlias = Mapping[int, int]  # from a student's layer to the teacher's whose states it shall reproduce


@dataclass(frozen=True)
class LossWeights:
    """What counts how much.

    Args:
        temperature: at which soft labels are compared.
        hidden: weight of the hidden states' squared error.
        attention: weight of one minus the cosine between attention probabilities.
        hard_labels: share of the cross-entropy on true labels, from 0 to 1; rows without a label do not use it.
    """

    temperature: float = 1.0
    hidden: float = 1.0
    attention: float = 0.0
    hard_labels: float = 0.0


def distillation_loss(
    student: Answers,
    teacher: Answers,
    layer_map: LayerMap,
    labels: Tensor | None,
    mask: Tensor,
    weights: LossWeights,
    problem: Problem = CLASSIFICATION,
) -> Tensor:
    """mean_n ((1 - h_n) D_n + h_n L_n) + hidden * mean_l MSE_l + attention * mean_l (1 - cos_l).

    D_n is row n's divergence from the teacher at a temperature, L_n its loss on the label, both as the problem has
    them; h_n is `hard_labels` where it has a label, else 0. MSE_l is over real tokens and the width of a layer's output
    (Jiao et al. 2020, arXiv 1909.10351), cos_l over real query tokens of its attention (Kim and Hassan 2020, arXiv
    2010.13382).

    Args:
        student: about B rows; its hidden states are as wide as the teacher's and may end after the first tokens.
        teacher: about the same rows.
        layer_map: layers to compare; one whose states the student lacks is left out of the mean.
        labels: (B, ...); None where nobody labelled any row.
        mask: (B, T), 1 at real tokens.
        weights: of the terms.
        problem: what answers mean.
    """
    each = problem.divergences(teacher.logits, student.logits, weights.temperature)  # (B,)
    if labels is not None:
        share: Tensor = weights.hard_labels * problem.labelled(labels)  # (B,)
        each = (1 - share) * each + share * problem.losses(student.logits, labels)
    loss = each.mean()
    states = [(student.hidden[s], teacher.hidden[t]) for s, t in layer_map.items() if s in student.hidden]
    if states:
        loss = loss + weights.hidden * torch.stack([_squared_error(*pair, mask) for pair in states]).mean()
    maps = [(student.attention[s], teacher.attention[t]) for s, t in layer_map.items() if s in student.attention]
    if maps:
        loss = loss + weights.attention * torch.stack([_turned(*pair, mask) for pair in maps]).mean()
    return loss


def _squared_error(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    tokens = student.shape[1]
    error = (student.float() - teacher[:, :tokens].float()).square().mean(-1)  # (B, tokens)
    return _mean_of_real(error, mask[:, :tokens])


def _turned(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    cosine = functional.cosine_similarity(student.float(), teacher.float(), dim=-1)  # (B, T)
    return _mean_of_real(1 - cosine, mask)


def _mean_of_real(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum()
