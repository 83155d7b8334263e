r"""What a few images say about the weights of an image tower.

Every map of the tower is opened (:mod:`~mergebook.towers.tape`). A matrix has inputs :math:`x`
and outputs :math:`y = Wx`, one of each per token; the scale of a norm multiplies normalised tokens;
the convolution is a matrix that acts on patches. From inputs come the moments :math:`E[xx^\top]` of
the least-squares methods (:mod:`~mergebook.activations.inputs`,
:mod:`~mergebook.activations.equations`). From gradients :math:`g` at the
outputs come K-FAC's second factor and, because :math:`\nabla_W = \sum g x^\top` over the tokens of
an image, the gradient of each single image with respect to any tensor, although images run in
batches (:mod:`~mergebook.activations.gradients`).

Activations are computed in the type of the arithmetic (float32, or float64 where the checkpoints
are); moments that methods invert are summed in float64.
"""

from mergebook.activations.equations import SEEN, conjugate_gradients, damp, solve
from mergebook.activations.gradients import (
    Estimator,
    diagonal_fisher,
    output_gradients,
    output_moments,
)
from mergebook.activations.inputs import Seen, seen_inputs

__all__ = [
    "SEEN",
    "Estimator",
    "Seen",
    "conjugate_gradients",
    "damp",
    "diagonal_fisher",
    "output_gradients",
    "output_moments",
    "seen_inputs",
    "solve",
]
