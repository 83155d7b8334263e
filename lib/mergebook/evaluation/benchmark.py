"""Accuracy of merged models on a suite, and the search for hyper-parameters on validation data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch.nn import functional as F

from mergebook.calibration import Calibration
from mergebook.errors import ExperimentError, ParameterError
from mergebook.merged import MergedModel
from mergebook.registry import get_method
from mergebook.suites import Suite, load_suite
from mergebook.towers.backbones import build_head, load_backbone
from mergebook.towers.device import compute_device, placed
from mergebook.training.experts import check_modality, load_experts
from mergebook.training.finetuning import DATA_SEED
from mergebook.weights import Experts
from mergebook.weights.experts import Entries

BATCH = 64  # examples per forward pass, so few that they stay in the cache
Correct = dict[str, np.ndarray]  # task -> bool [N], one entry per image


@dataclass(frozen=True)
class Search:
    """Outcome of a hyper-parameter search.

    Attributes
    ----------
    params : dict
        The chosen parameters, with the fixed ones.
    model : MergedModel
        Merged with them.
    curve : DataFrame
        One row per grid point and task: the parameters, ``task``, validation ``accuracy`` and
        ``normalised`` accuracy.
    """

    params: dict[str, object]
    model: MergedModel
    curve: pd.DataFrame


class Benchmark:
    """A suite with a backbone and its experts, ready to evaluate merged models.

    Parameters
    ----------
    suite : Suite or str, default "mini"
    backbone : str, default "mini-small"
    num_tasks : int, optional
        The first so many tasks of a suite given by name.
    seed : int, default 0
        Seed of the experts. Test and validation images are the same for all seeds.
    test_size, validation_size : int
        Images per task, as far as the task has them.
    steps : int, optional
        Fine-tuning steps of the experts, if not the recipe's.
    jobs : int, optional
        Processes for fine-tuning experts that are not cached.
    """

    def __init__(
        self,
        suite: Suite | str = "mini",
        backbone: str = "mini-small",
        *,
        num_tasks: int | None = None,
        seed: int = 0,
        test_size: int = 500,
        validation_size: int = 200,
        calibration_size: int = 256,
        steps: int | None = None,
        jobs: int | None = None,
    ):
        self.suite = load_suite(suite, num_tasks) if isinstance(suite, str) else suite
        check_modality(self.suite, backbone)
        self.backbone = load_backbone(backbone)
        self.seed = seed
        self.sizes = {
            "test": test_size, "validation": validation_size, "train": calibration_size
        }  # fmt: skip
        self._training = (backbone, jobs, steps)
        self.experts: Experts = load_experts(self.suite, backbone, seed, jobs, steps)
        self.heads = {task.name: build_head(self.backbone, task) for task in self.suite}
        self._inputs: dict[tuple[str, str], tuple[torch.Tensor, torch.Tensor]] = {}
        self._reference: dict[str, Correct] = {}

    def _copy(self, **changes: object) -> Benchmark:
        other = object.__new__(Benchmark)
        other.__dict__.update(self.__dict__ | changes)
        return other

    def select(self, tasks: Sequence[str]) -> Benchmark:
        """Return the benchmark of some of the tasks; images and heads are shared."""
        return self._copy(suite=self.suite.select(tasks), experts=self.experts.select(tasks))

    def first(self, num_tasks: int) -> Benchmark:
        """Return the benchmark of the first tasks; images and heads are shared."""
        return self.select(self.suite.first(num_tasks).names)

    def subsets(self, num_tasks: int, number: int, seed: int = 0) -> list[Benchmark]:
        """Return benchmarks of random tasks: the first tasks, then `number` - 1 random choices.

        Parameters
        ----------
        num_tasks : int
            Tasks of each.
        number : int
            How many; one if the suite has no more than `num_tasks` tasks.
        seed : int, default 0
            Seed of the choice.
        """
        rng, names = np.random.default_rng([seed, num_tasks]), self.suite.names
        chosen = [self.first(num_tasks)]
        for _ in range(number - 1 if num_tasks < len(names) else 0):
            places = sorted(rng.choice(len(names), num_tasks, replace=False))
            chosen.append(self.select([names[place] for place in places]))
        return chosen

    def counting(self, entries: Entries) -> Benchmark:
        """Return the benchmark with shares taken over other entries, see :class:`Experts`."""
        return self._copy(experts=self.experts.counting(entries))

    def with_experts(self, experts: Experts) -> Benchmark:
        """Return the benchmark with other weights of its tasks, such as compressed ones.

        Accuracies stay relative to those of the experts that it has now.

        Raises
        ------
        ExperimentError
            If the weights are of other tasks.
        """
        if experts.tasks != self.experts.tasks:
            raise ExperimentError(
                f"experts of {', '.join(experts.tasks)} for a benchmark of "
                f"{', '.join(self.experts.tasks)}"
            )
        for split in ("validation", "test"):
            self.reference(split)
        return self._copy(experts=experts)

    def with_seed(self, seed: int) -> Benchmark:
        """Return the benchmark with the experts of another seed; images and heads are shared."""
        if seed == self.seed:
            return self
        name, jobs, steps = self._training
        experts = load_experts(self.suite, name, seed, jobs, steps)
        return self._copy(seed=seed, experts=experts, _reference={})

    def inputs(self, task: str, split: str = "test") -> tuple[torch.Tensor, torch.Tensor]:
        """Return a task's preprocessed inputs, ``[N, ...]``, and labels, int64 [N]."""
        if (task, split) not in self._inputs:
            if split not in self.sizes:
                raise ExperimentError(
                    f"split must be one of {', '.join(self.sizes)}, got {split!r}"
                )
            size = self.suite[task].at_most(split, self.sizes[split])
            examples, labels = self.suite[task].examples(split, size, DATA_SEED)
            inputs = self.backbone.preprocess(examples)
            self._inputs[task, split] = inputs, torch.from_numpy(labels)
        return self._inputs[task, split]

    def calibration(self, split: str = "train") -> Calibration:
        """Return the images for methods that need some: the first of a split.

        Parameters
        ----------
        split : {"train", "validation", "test"}, default "train"
            The papers adapt on the unlabelled test images; the default keeps those unseen.

        Raises
        ------
        ExperimentError
            If the split is unknown.
        """
        images = {task: self.inputs(task, split) for task in self.suite.names}
        return Calibration(
            backbone=self.backbone.name,
            inputs={task: inputs for task, (inputs, _) in images.items()},
            heads={task: self.heads[task] for task in images},
            logit_scale=self.backbone.logit_scale,
            labels={task: labels for task, (_, labels) in images.items()},
            split=split,
        )

    def merge(self, method: str, **params: object) -> MergedModel:
        """Run a method on the experts, with images if it needs some."""
        return self._merger(method)(**params)

    def _merger(self, method: str) -> Callable[..., MergedModel]:
        """Return the function from parameters to model; what merges share is prepared once."""
        method_ = get_method(method)
        return method_.on(self.experts, self.calibration() if method_.needs else None)

    @torch.inference_mode()
    def predict(
        self,
        encoder: torch.nn.Module,
        task: str,
        split: str = "test",
        head: torch.Tensor | None = None,
    ) -> np.ndarray:
        """Return whether each image of a task is classified correctly, bool [N]."""
        inputs, labels = self.inputs(task, split)
        head, guesses = self.heads[task] if head is None else head, torch.empty_like(labels)
        encoder = placed(encoder, compute_device())
        where = next(iter(encoder.parameters()), guesses).device
        for rows in self.backbone.batches(inputs, BATCH):
            features = F.normalize(encoder(inputs[rows].to(where)).to(guesses.device), dim=-1)
            guesses[rows] = (features @ head.T).argmax(1)
        return (guesses == labels).numpy()

    def correct(self, model: MergedModel, split: str = "test") -> Correct:
        """Return, for each task, which images a model classifies correctly."""
        return {
            name: self.predict(model.encoder(name), name, split, model.head(name))
            for name in self.suite.names
        }

    def reference(self, split: str = "test") -> Correct:
        """Return the experts' own correct images (computed once)."""
        known = self._reference.setdefault(split, {})
        missing = [name for name in self.suite.names if name not in known]
        if missing:
            model = self.merge("fine_tuned")
            known.update({name: self.predict(model.encoder(name), name, split) for name in missing})
        return {name: known[name] for name in self.suite.names}

    def accuracies(self, model: MergedModel, split: str = "test") -> pd.DataFrame:
        """Return accuracy and normalised accuracy per task.

        Returns
        -------
        DataFrame
            Columns ``task``, ``accuracy``, ``normalised`` (fractions; normalised is the accuracy
            over that task's expert's accuracy on the same images).
        """
        correct, reference = self.correct(model, split), self.reference(split)
        rows = [
            {
                "task": name,
                "accuracy": hits.mean(),
                "normalised": _ratio(name, hits, reference[name]),
            }
            for name, hits in correct.items()
        ]
        return pd.DataFrame(rows)

    def search(
        self, method: str, grid: Mapping[str, Sequence] | None = None, **fixed: object
    ) -> Search:
        """Choose parameters by mean normalised validation accuracy; the first best wins.

        Parameters
        ----------
        method : str
            Name of a registered method.
        grid : mapping, optional
            Parameter -> values; the method's own grid if not given.
        **fixed
            Parameters that are not searched.

        Returns
        -------
        Search

        Raises
        ------
        ParameterError
            Empty grid, or parameters that the method refuses.
        """
        grid = dict(get_method(method).grid if grid is None else grid)
        points = [
            dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
        ]
        if not points:
            raise ParameterError(f"method {method!r}: the grid of {', '.join(grid)} is empty")
        merge, frames, scores = self._merger(method), [], []
        for point in points:
            model = merge(**point, **fixed)
            frame = self.accuracies(model, "validation")
            frames.append(frame.assign(**point))
            scores.append(frame["normalised"].mean())
            if scores[-1] > max(scores[:-1], default=-np.inf):
                chosen, best = {**point, **fixed}, model
        return Search(chosen, best, pd.concat(frames, ignore_index=True))

    def search_per_task(
        self, method: str, parameter: str, values: Sequence, **fixed: object
    ) -> Search:
        """Choose one parameter for each task by that task's validation accuracy.

        Tasks are searched independently and the first best value wins, as the released code of
        [wang2024localizing]_ does for the mask thresholds.

        Parameters
        ----------
        method : str
            A method whose `parameter` may be a mapping from task to value.
        parameter : str
        values : sequence
        **fixed
            Other parameters.
        """
        if not len(values):
            raise ParameterError(f"method {method!r}: no values of {parameter!r} to search")
        merge = self._merger(method)
        frames = [
            self.accuracies(merge(**{parameter: value}, **fixed), "validation").assign(
                **{parameter: value}
            )
            for value in values
        ]
        curve = pd.concat(frames, ignore_index=True)
        table = curve.pivot(index="task", columns=parameter, values="accuracy")[list(values)]
        chosen = {task: table.columns[int(table.loc[task].argmax())] for task in self.suite.names}
        params = {parameter: {task: float(value) for task, value in chosen.items()}, **fixed}
        return Search(params, merge(**params), curve)


def _ratio(task: str, hits: np.ndarray, reference: np.ndarray) -> float:
    if not reference.any():
        raise ExperimentError(
            f"the expert of {task!r} gets no image right; nothing to normalise by"
        )
    return float(hits.mean() / reference.mean())
