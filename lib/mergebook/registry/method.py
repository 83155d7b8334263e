"""A registered method: its facts, the checks of what it is given, and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from mergebook import __version__
from mergebook.calibration import Calibration
from mergebook.errors import MethodError, ParameterError, unknown
from mergebook.merged import MergedModel, Told
from mergebook.registry.parameters import Parameter
from mergebook.registry.precision import check_supported, rounded, type_named
from mergebook.weights import Experts

Need = Literal["images", "labels"]
Status = Literal["paper", "our reading", "analogue", "common knowledge"]
Run = Callable[[dict[str, Any]], MergedModel]


@dataclass(frozen=True)
class Method:
    """A registered method; call it with experts and parameters.

    Attributes
    ----------
    name, title : str
        Name in code, and in tables.
    family : str
        Such as "data-free" or "compression".
    paper : str or None
        Citation key; None for common knowledge.
    status : {"paper", "our reading", "analogue", "common knowledge"}
        What the implementation rests on: the paper's text or released code; our reading of an
        incomplete description; a counterpart of ours for image encoders; or common knowledge.
    needs : tuple of {"images", "labels"}
        What it needs beyond weights: unlabelled images, and their labels.
    gives : type
        The kind of :class:`~mergebook.merged.MergedModel` that it returns.
    symmetric : bool
        Whether the order of the experts is irrelevant.
    parameters : tuple of Parameter
        Its hyper-parameters.
    grid : mapping of str to tuple
        Values that a search tries by default.
    doc : str
        Documentation, with all parameters.
    function : callable
        The function that was registered.
    start : callable
        Maps experts, calibration and whether several merges are to come to a function from a full
        set of parameters to a :class:`MergedModel`.
    """

    name: str
    title: str
    family: str
    paper: str | None
    status: Status
    needs: tuple[Need, ...]
    gives: type[MergedModel]
    symmetric: bool
    parameters: tuple[Parameter, ...]
    grid: Mapping[str, tuple[Any, ...]]
    doc: str
    function: Callable[..., Any]
    start: Callable[[Experts, Calibration | None, bool], Run]

    @property
    def told(self) -> Told:
        """Whether an encoder must be told an image's task, see :class:`MergedModel`."""
        return self.gives.told

    def check(self, /, **params: Any) -> dict[str, Any]:
        """All parameters with defaults filled in, as plain Python objects.

        Raises
        ------
        ParameterError
            If a parameter is unknown, of the wrong type, or out of range.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in params:
            if name not in known:
                raise ParameterError(f"{self.name}: {unknown('parameter', name, known)}")
        full = {name: parameter.default for name, parameter in known.items()} | params
        for name, value in full.items():
            try:
                full[name] = known[name].values.convert(value)
            except ValueError as problem:
                raise ParameterError(
                    f"{self.name}: {name}={problem}; parameters of {self.name}: {', '.join(known)}"
                ) from None
        return full

    def __call__(
        self, experts: Experts, calibration: Calibration | None = None, /, **params: Any
    ) -> MergedModel:
        """Merge or compress the experts.

        Parameters
        ----------
        experts : Experts
            Base and experts.
        calibration : Calibration, optional
            Images of the experts' tasks (of more tasks does no harm), for a method that needs some;
            other methods do not look at them.
        **params
            The method's parameters.

        Raises
        ------
        MethodError
            If the method needs images or labels and there are none, or they are for another
            backbone.
        CheckpointError
            If it needs images and the experts are not image towers of the calibration's backbone.
        ParameterError
            As :meth:`check`; also if a value per task does not name exactly the experts' tasks.
        """
        return self.on(experts, calibration, reuse=False)(**params)

    def on(
        self,
        experts: Experts,
        calibration: Calibration | None = None,
        /,
        *,
        dtype: str | None = None,
        reuse: bool = True,
    ) -> Callable[..., MergedModel]:
        """Prepare to merge the same experts several times, as a search does.

        What the method computes once for the whole model is kept from one merge to the next, as
        long as the parameters that it depends on stay the same. The results are those of separate
        calls.

        Parameters
        ----------
        experts, calibration
            As for a call.
        dtype : {"float64", "float32", "bfloat16", "float16"}, optional
            Type of the result's floating-point tensors; by default that of each tensor of the base.
            A result of another kind than :class:`~mergebook.merged.SharedModel` has the type of
            the experts, and no other. Results are rounded to the base's type first: for a wider
            one, give experts that are read in a wide type.
        reuse : bool, default True
            Whether several merges are to come, so that what they have in common is worth its
            memory. For a single one, which then needs less, it is False.

        Returns
        -------
        callable
            ``merge(**params) -> MergedModel``, with the errors of a call, and a CheckpointError if
            a value is too large for `dtype`.

        Raises
        ------
        MethodError, CheckpointError
            As for a call.
        ParameterError
            If there is no such `dtype`, or the result cannot have it.
        """
        if not isinstance(experts, Experts):
            raise MethodError(
                f"{self.name} takes Experts(base, {{task: weights, ...}}), "
                f"not a {type(experts).__name__}"
            )
        if self.needs:
            calibration = self._check_calibration(experts, calibration)
        wanted = None if dtype is None else type_named(dtype)
        if wanted is not None:
            check_supported(self.name, self.gives, wanted, experts)
        run = self.start(experts, calibration, reuse)

        def merge(**params: Any) -> MergedModel:
            full = self._check_tasks(self.check(**params), experts)
            with torch.inference_mode(False):  # gradients are on, whatever the caller has set
                merged = run(full)
            if wanted is not None:
                merged = rounded(merged, wanted)
            merged.backbone = experts.backbone
            merged.recipe = self._recipe(experts, calibration, full, dtype)
            return merged

        return merge

    def _recipe(
        self,
        experts: Experts,
        calibration: Calibration | None,
        params: dict[str, Any],
        dtype: str | None,
    ) -> dict[str, Any]:
        """What made a result: all that it takes to make it again, but for the inputs themselves."""
        recipe: dict[str, Any] = {
            "method": self.name,
            "parameters": params,
            "entries": experts.entries,
            "mergebook": __version__,
        }
        if dtype is not None:
            recipe["dtype"] = dtype
        if experts.frozen_extra:
            recipe["frozen_extra"] = experts.frozen_extra
        if self.needs:
            recipe["images"] = {task: len(each) for task, each in calibration.inputs.items()}
            recipe["split"] = calibration.split
        return recipe

    def _check_tasks(self, full: dict[str, Any], experts: Experts) -> dict[str, Any]:
        for name, value in full.items():
            if isinstance(value, Mapping) and value.keys() != set(experts.tasks):
                wrong = sorted(value.keys() ^ set(experts.tasks))
                raise ParameterError(
                    f"{self.name}: {name} must give one value for each of the tasks "
                    f"{', '.join(experts.tasks)}; missing or unknown: {', '.join(wrong)}"
                )
        return full

    def _check_calibration(self, experts: Experts, given: Calibration | None) -> Calibration:
        if given is None:
            raise MethodError(
                f"{self.name} needs {' and '.join(self.needs)}: in Python or a notebook pass a "
                f"Calibration, such as Benchmark(...).calibration(), after the experts; on the "
                f"command line name a suite that has these tasks (--suite, with --backbone)"
            )
        if not isinstance(given, Calibration):
            raise MethodError(
                f"{self.name} takes a Calibration after the experts, not a {type(given).__name__}"
            )
        if "labels" in self.needs and given.labels is None:
            raise MethodError(f"{self.name} needs labels, but the calibration has none")
        used = given.select(experts.tasks)
        used.check_fits(experts.base)
        return used
