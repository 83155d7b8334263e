"""The commands that the README shows for merging run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import mergebook as mb


def test_the_example_of_merging_runs(root, tmp_path):
    text = (root / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Merge your own checkpoints\n")[2].partition("\n## ")[0]
    [script] = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    assert "--steps 100" in script
    quick = script.replace("--steps 100", "--steps 1")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"MERGEBOOK_CHECKPOINTS": str(tmp_path / "experts"), "PATH": path}
    command = ["bash", "-euo", "pipefail", "-c", quick]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    merged = mb.load_merged(tmp_path / "merged.safetensors")
    assert merged.recipe["method"] == "ties"
    assert set(merged.tasks) == {"vehicles", "textures"}
