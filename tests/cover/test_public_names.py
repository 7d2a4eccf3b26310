"""The names that ``import shakeout`` offers."""

import importlib.util
import sys
from importlib.metadata import version

import pytest

import shakeout


def exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package on the way is missing
        return False


def test_version_is_that_of_the_installed_package():
    assert shakeout.__version__ == version("shakeout")


def test_every_public_name_is_declared_and_listed():
    assert sorted({"__version__", *shakeout._PUBLIC}) == sorted(shakeout.__all__)
    assert set(shakeout.__all__) <= set(dir(shakeout))


@pytest.mark.parametrize("name", shakeout._PUBLIC)
def test_public_name_resolves(name):
    module, _ = shakeout._PUBLIC[name]
    if not exists(module):
        pytest.skip(f"{module} does not exist yet")
    assert getattr(shakeout, name) is getattr(shakeout, name)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'shakeout' has no attribute 'kernle'"):
        shakeout.kernle  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", ["cases", "programs", "tensors"])
def test_a_strategy_says_that_it_needs_hypothesis(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    for module in [
        one for one in sys.modules if one.startswith("shakeout.") and one.endswith(("strategies", ".hypothesis"))
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delitem(vars(shakeout), name, raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'shakeout\[hypothesis\]'"):
        getattr(shakeout, name)
