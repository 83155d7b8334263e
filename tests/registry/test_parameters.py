"""Every parameter of every method does something: changing it alone changes what the method gives.

Some matter only beside others (a seed only where something is random), so that a parameter is
tried beside several choices of the others until a change shows.
"""

import random

import pytest
import torch

import mergebook as mb
from mergebook.calibration import Calibration
from mergebook.weights import Experts

TASKS = {"one": 3, "two": 4}  # name -> number of classes
LENGTHS = {"steps": 1, "router_steps": 1, "rounds": 1, "iterations": 1}
TRIES = 30
# What a parameter is rarely met beside by chance, and does nothing without.
BESIDE = {
    # A batch of all images has the same gradient in any order, but for rounding.
    ("adamerging_task_pp", "seed"): {"batch_size": 2, "steps": 3, "lr": 0.03},
    ("auto_switch", "rule"): {"drop": 1.0},
    ("t_switch", "rule"): {"drop": 1.0},
    ("symerge", "samples"): {"steps": 3, "lr": 0.3},
    ("intervmerge", "teacher"): {"merge": "ties"},
    ("intervmerge", "coefficient_lr"): {"coefficients": "learned"},
    ("intervmerge", "part"): {"form": "mini"},
    ("intervmerge_mini", "biases"): {"form": "mini"},
}


@pytest.fixture(scope="module")
def weights() -> Experts:
    """Experts of weights alone: matrices under the names that methods look for, and ties."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape):
        return torch.randn(shape, generator=generator)

    block = "transformer.resblocks.{}."
    shapes = {"conv1.weight": (8, 3, 2, 2), "proj": (8, 6), "scale": ()}
    for number in range(3):
        start = block.format(number)
        shapes |= {
            f"{start}attn.in_proj_weight": (24, 8),
            f"{start}mlp.c_fc.weight": (32, 8),
            f"{start}ln_1.weight": (8,),
        }
    base = {key: noise(*shape) for key, shape in shapes.items()} | {"frozen": noise(5, 5)}
    experts = {}
    for task in TASKS:
        experts[task] = {key: value + 0.1 * noise(*value.shape) for key, value in base.items()}
        experts[task] |= {"frozen": base["frozen"]}
        # Sums that cancel, entries that are equal, and some that no task changes.
        experts[task]["proj"] = base["proj"] + torch.randint(-2, 3, (8, 6), generator=generator) / 8
    return Experts(base, experts)


@pytest.fixture(scope="module")
def towers() -> Experts:
    """Experts with images: a mini backbone's image tower and noise on it."""
    from mergebook.towers import clip

    generator = torch.Generator().manual_seed(1)
    base = clip.load_backbone("mini-small").visual.state_dict()

    def expert():
        return {
            key: value
            + 0.2 * value.std().nan_to_num(1.0) * torch.randn(value.shape, generator=generator)
            for key, value in base.items()
        }

    return Experts(base, {task: expert() for task in TASKS}, backbone="mini-small")


@pytest.fixture(scope="module")
def images() -> Calibration:
    generator = torch.Generator().manual_seed(2)
    heads = {task: torch.randn(count, 64, generator=generator) for task, count in TASKS.items()}
    return Calibration(
        "mini-small",
        {task: torch.randn(5, 3, 32, 32, generator=generator) for task in TASKS},
        {task: torch.nn.functional.normalize(head, dim=-1) for task, head in heads.items()},
        20.0,
        {t: torch.randint(count, (5,), generator=generator) for t, count in TASKS.items()},
    )


def others(parameter) -> list:
    """Some valid values that are not the default, those nearby first."""
    default, valid = parameter.default, parameter.range
    if parameter.type == "bool":
        return [not default]
    if parameter.type == "choice":
        return [choice for choice in parameter.choices if choice != default]
    if parameter.type == "int":
        values = [default + 1, max(1, default // 2), 1, 2, 3, 5, valid.low]
    else:
        high = valid.low + 3 if valid.high is None else valid.high
        values = [default / 2, 2 * default, valid.low, (valid.low + default) / 8]
        values += [valid.low + share * (high - valid.low) for share in (0.3, 0.7, 1)]
    values = [value for value in dict.fromkeys(values) if value in valid and value != default]
    if parameter.type == "float per task":
        values.insert(0, dict(zip(TASKS, (default, *values), strict=False)))
    return values


class World:
    """Runs one method, each set of parameters once."""

    def __init__(self, method, weights, towers, images):
        self.method, self.done = method, {}
        self.experts = towers if method.needs or method.told == "guessed" else weights
        self.images = images
        self.short = {  # of a training; a descent on the weights alone takes no time
            each.name: LENGTHS[each.name]
            for each in method.parameters
            if each.name in LENGTHS and method.needs
        }

    def outcome(self, **params) -> list[torch.Tensor]:
        """What a user of the result sees, and what it takes to store; empty if it is refused."""
        key = repr(sorted(params.items()))
        if key not in self.done:
            try:
                merged = self.method(self.experts, self.images, **self.short | params)
                self.done[key] = list(self._seen(merged))
            except mb.MergebookError:  # parameters that do not fit one another, or diverge
                self.done[key] = []
        return self.done[key]

    def _seen(self, merged):
        yield torch.tensor(merged.storage().bits)
        unseen = torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(9))
        for task in merged.tasks:
            if merged.told == "guessed" or merged.kind == "intervened":
                with torch.inference_mode():
                    yield merged.encoder(task)(unseen)
            else:
                yield from (value for _, value in sorted(merged.state_dict(task).items()))
            if (head := merged.head(task)) is not None:
                yield head


@pytest.mark.parametrize("name", mb.list_methods())
def test_every_parameter_changes_the_result(name, weights, towers, images):
    method, rng = mb.get_method(name), random.Random(name)
    world = World(method, weights, towers, images)
    left = {each.name: each for each in method.parameters}
    for attempt in range(TRIES):
        for changed, parameter in list(left.items()):
            beside = dict(BESIDE.get((name, changed), {}))
            for each in method.parameters if attempt else ():  # first beside the defaults
                if each.name not in (*world.short, *beside) and rng.random() < 0.3:
                    beside[each.name] = rng.choice(others(each))
            beside.pop(changed, None)
            values = [2] if changed in world.short else others(parameter)
            before = world.outcome(**beside)
            after = world.outcome(**beside, **{changed: values[attempt % len(values)]})
            if before and after and differ(before, after):
                del left[changed]
        if not left:
            return
    pytest.fail(f"{name}: nothing changed with {', '.join(left)} in {TRIES} tries")


def differ(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) != len(other) or not all(map(torch.equal, one, other))
