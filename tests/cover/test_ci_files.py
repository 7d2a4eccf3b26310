"""The workflows of docs/ci: as GitHub and GitLab want them, with commands and flags that exist."""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from shakeout.fuzz import cli

DIRECTORY = Path(__file__).parents[2] / "docs" / "ci"
SCHEMAS = {"github": "vendor.github-workflows", "gitlab": "vendor.gitlab-ci"}
FILES = sorted(DIRECTORY.glob("*.yml"))


def check(path: Path, schema: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_workflow_is_what_its_schema_wants(path: Path, tmp_path: Path) -> None:
    schema = SCHEMAS[path.name.partition("-")[0]]
    done = check(path, schema)
    assert done.returncode == 0, done.stdout + done.stderr
    # The schema would see a mistake.
    broken = tmp_path / path.name
    wrong = {"runs-on: ubuntu-24.04": "runs_on: ubuntu-24.04", "when: always #": "when: sometimes #"}
    text = path.read_text()
    for right, mistake in wrong.items():
        text = text.replace(right, mistake)
    assert text != path.read_text()
    broken.write_text(text)
    assert check(broken, schema).returncode == 1


def lines(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield from value.splitlines()
    elif isinstance(value, dict):
        for item in value.values():
            yield from lines(item)
    elif isinstance(value, list):
        for item in value:
            yield from lines(item)


def commands(path: Path) -> list[list[str]]:
    """What is given to ``shakeout`` in a file, without what a variable may hold."""
    told = lines(YAML(typ="safe").load(path))
    words = [shlex.split(line) for line in told if line.startswith("shakeout ") and "--" in line]
    return [[word for word in found[1:] if word != "$LEARN" and word != "$SHAKEOUT_LEARN"] for found in words]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_commands_of_a_workflow_can_be_given(path: Path) -> None:
    found = commands(path)
    assert {words[0] for words in found} <= {"gate", "nightly"}
    assert found
    parser = cli._parser()
    (known,) = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for words in found:
        if words[0] not in known:
            pytest.skip(f"this Shakeout has no command {words[0]!r}")
        parser.parse_args(words)
