"""Bad input is refused with a message that names the argument: one property, for every public name of the catalogue and of core."""

import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from specimens import all_specimens, corrupt, corruptions

import ritz.core
from ritz.catalogue import ROOMS, blocks, methods

# Names of core that take no argument a user could get wrong.
WITHOUT_INPUT = {"MissingExtra", "ConvergenceWarning", "Result", "warn_not_converged", "quiet", "shows_progress", "progress", "is_torch"}


def _public_names() -> set[str]:
    of_methods = {f"{row.room}.{name}" for row in methods() if row.status != "planned" for name in row.public}
    of_blocks = {f"{room}.{name}" for room in ROOMS for name in blocks(room)}
    of_core = {f"core.{name}" for name in vars(ritz.core) if not name.startswith("_") and callable(getattr(ritz.core, name))}
    return of_methods | of_blocks | (of_core - {f"core.{name}" for name in WITHOUT_INPUT})


def test_every_public_name_has_a_specimen():
    covered = {".".join(key.split(".")[:2]) for key in all_specimens()}
    assert _public_names() - covered == set()


@pytest.mark.parametrize("key", sorted(all_specimens()))
def test_a_specimen_is_valid(key):
    specimen = all_specimens()[key]
    specimen.call(**specimen.arguments())


@pytest.mark.parametrize("key", sorted(all_specimens()))
@settings(max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_bad_input_is_refused_by_name(key, data):
    specimen = all_specimens()[key]
    arguments = dict(specimen.arguments())
    options = [
        (name, how, must)
        for name, value in arguments.items()
        if name not in specimen.spare
        for how, must in corruptions(value).items()
        if how not in (specimen.accepts or {}).get(name, ())
    ]
    if not options:
        return
    name, how, must_refuse = data.draw(st.sampled_from(options))
    arguments[name] = corrupt(arguments[name], how, data.draw(st.integers(0, 10**6)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _expect_refusal(specimen.call, arguments, name, how, must_refuse)


def _expect_refusal(call, arguments, name, how, must_refuse):
    refusal = None
    try:
        call(**arguments)
    except (ValueError, TypeError) as error:
        refusal = error
    assert refusal is not None or not must_refuse, f"{name} spoiled by '{how}' was accepted"
    assert refusal is None or name in str(refusal), f"{name} spoiled by '{how}': the message does not name it: {refusal}"
