"""Every registered distribution, held against its own density and against SciPy's."""

import jax
import numpy as np
import pytest

import cases
import likelax as lx
from likelax._pytree import Node
from likelax.testing.subject import quick_jit

FAMILIES = {
    name: family
    for name in lx.distributions.__all__
    if isinstance(family := getattr(lx, name), type) and issubclass(family, lx.Distribution)
}
IN_FULL = [case for case in cases.CASES if case.same_as is None]
IN_ANOTHER_WAY = [case for case in cases.CASES if case.same_as is not None]
WITH_VALUES = [case for case in cases.CASES if case.exact is not None]


def nodes(tree):
    """The nodes of a tree, the root first."""
    if isinstance(tree, tuple):
        return [n for part in tree for n in nodes(part)]
    if not isinstance(tree, Node):
        return []
    return [tree, *(n for value in vars(tree).values() for n in nodes(value))]


def log_prob(dist, values):
    return dist.log_prob(values)


@pytest.mark.parametrize("case", IN_FULL, ids=lambda case: case.name)
def test_it_is_what_its_density_says(case):
    report = lx.testing.check_distribution(case.make(), key=jax.random.key(7))
    assert report.ok
    assert not [row for row in report.skipped if row.name == "everything else"]


@pytest.mark.parametrize("case", IN_ANOTHER_WAY, ids=lambda case: case.name)
def test_parameters_given_in_another_way_change_nothing(case):
    """log_prob, and its gradient carried over by the parameter's own conversion."""
    dist, other = cases.BY_NAME[case.same_as].make(), case.make()
    shape = (len(case.values), *dist.batch_shape, *dist.event_shape)
    values = np.broadcast_to(case.values, shape).astype(np.float32)

    @quick_jit
    def both(dist, other):
        def total(dist):
            log_prob = dist.log_prob(values)
            return log_prob.sum(), log_prob

        first, log_prob = jax.grad(total, has_aux=True)(dist)
        second, other_log_prob = jax.grad(total, has_aux=True)(other)
        carried = {}
        for param in type(other)._params:
            if other.given(param.name):
                gradient, move = getattr(first, param.group), param.to or (lambda x: x)
                given = getattr(other, param.name)
                carried[param.name] = jax.vjp(move, given)[1](gradient)[0]
        return log_prob, other_log_prob, carried, {name: getattr(second, name) for name in carried}

    log_prob, other_log_prob, carried, own = both(dist, other)
    np.testing.assert_allclose(other_log_prob, log_prob, rtol=2e-6, atol=2e-6)
    assert set(vars(other)) - set(type(other)._nodes) == set(own) != set(vars(dist))
    for name in own:
        np.testing.assert_allclose(own[name], carried[name], rtol=2e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("case", WITH_VALUES, ids=lambda case: case.name)
def test_log_prob_is_the_formula_in_float64(case):
    dist = case.make()
    shape = (len(case.values), *dist.batch_shape, *dist.event_shape)
    values = np.broadcast_to(case.values, shape)
    want = case.exact(values)
    values = values.astype(np.int32 if dist._takes_indices else np.float32)
    got = np.asarray(quick_jit(log_prob)(dist, values))
    assert got.shape == want.shape
    # Logarithms given as parameters are rounded to float32 themselves.
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=2e-6)


def test_names_are_unlike():
    assert len(cases.BY_NAME) == len(cases.CASES)


def test_every_exported_distribution_has_a_case():
    held = {type(node) for case in cases.CASES for node in nodes(case.make())}
    missing = [name for name, family in FAMILIES.items() if family not in held]
    assert missing == ["Distribution"], "add a case for these to tests/cases.py"


def test_every_way_to_give_a_parameter_has_a_case():
    held = {
        (type(node), param.name)
        for case in cases.CASES
        for node in nodes(case.make())
        for param in type(node)._params
        if node.given(param.name)
    }
    missing = [
        f"{name}.{param.name}"
        for name, family in FAMILIES.items()
        for param in family._params
        if (family, param.name) not in held
    ]
    assert not missing, "add a case for these to tests/cases.py"


def test_every_exact_value_is_a_number():
    for case in WITH_VALUES:
        dist = case.make()
        shape = (len(case.values), *dist.batch_shape, *dist.event_shape)
        assert np.isfinite(case.exact(np.broadcast_to(case.values, shape))).all(), case.name
