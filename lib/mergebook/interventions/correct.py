"""One correction of a merged model that is there already."""

from __future__ import annotations

import torch

from mergebook.errors import MethodError, unknown
from mergebook.interventions.imitation import Imitation
from mergebook.merged import IntervenedModel
from mergebook.registry import get_method, list_methods
from mergebook.registry.method import Method
from mergebook.registry.parameters import read_parameters


def intervention(name: str) -> Method:
    """A method of the family "intervention".

    Raises
    ------
    MethodError
        If there is none of that name; the message says which are near.
    """
    names = [each for each in list_methods() if get_method(each).family == "intervention"]
    if name not in names:
        raise MethodError(unknown("intervention", name, names))
    return get_method(name)


def correct(imitation: Imitation, name: str, /, **params: object) -> IntervenedModel:
    """Run a method that edits representations on a merged model, however that was made.

    What the corrections of one merged model have in common, such as what the teachers compute, is
    computed for the first of them only.

    Parameters
    ----------
    imitation : Imitation
        The merged model, its teachers, and images.
    name : str
        One of the methods of the family "intervention".
    **params
        The method's parameters; `merge` and `scale` say nothing here, unless
        ``coefficients="learned"``, which makes the merge anew.

    Raises
    ------
    MethodError
        If there is no such method.
    ParameterError
        If a parameter is unknown, of the wrong type, or out of range.
    """
    method = intervention(name)
    packed = read_parameters(method.function, num_positional=1).pack(method.check(**params))
    with torch.inference_mode(False):
        return method.function(imitation, **packed)
