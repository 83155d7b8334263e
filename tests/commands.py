"""Commands of the command line on small files, for the tests that call it."""

import torch

import mergebook as mb
from comparison import assert_equal
from mergebook.cli import main
from mergebook.weights import save_checkpoint

TASKS = ("a", "b", "c")


def states(dtype=torch.float32):
    """A base and three experts, with a frozen tensor and an integer one."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"blocks.0.attn.in_proj_weight": (12, 4), "blocks.0.mlp.c_fc.weight": (8, 4)}
    shapes |= {"blocks.0.attn.in_proj_bias": (12,), "conv1.weight": (3, 2, 2, 2), "proj": (4, 4)}
    base = {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    experts = {
        task: {
            key: (tensor + torch.randn(tensor.shape, generator=generator) / 8).to(dtype)
            for key, tensor in base.items()
        }
        for task in TASKS
    }
    base = {key: tensor.to(dtype) for key, tensor in base.items()}
    for state in (base, *experts.values()):
        state |= {"frozen": torch.arange(5).to(dtype), "steps": torch.tensor([7, 8])}
    return base, experts


def save(folder, base, experts, **metadata):
    """Write them as files; the options of the command line that name them."""
    options = ["--base", str(save_checkpoint(base, folder / "base.safetensors", metadata))]
    for task, state in experts.items():
        path = save_checkpoint(state, folder / f"{task}.safetensors")
        options += ["--expert", f"{task}={path}"]
    return options


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def merge(capsys, inputs, out, method, *options):
    status, _, err = run(capsys, "merge", "--method", method, *inputs, "--out", out, *options)
    assert (status, err) == (0, "")
    return mb.load_merged(out)


def refused(capsys, inputs, out, method, *options):
    """The message of a command that fails and leaves nothing."""
    folder = out.parent
    before = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    status, text, err = run(capsys, "merge", "--method", method, *inputs, "--out", out, *options)
    assert (status, text) == (2, "")
    after = {path: path.read_bytes() for path in folder.parent.rglob("*") if path.is_file()}
    assert before == after
    return err


def assert_same(left, right):
    assert left.tasks == right.tasks
    for task in left.tasks:
        assert_equal(left.state_dict(task), right.state_dict(task))
