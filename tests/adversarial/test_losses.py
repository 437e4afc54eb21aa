"""Losses at the best critic against divergences by quadrature, and penalties in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.stats

import likelax as lx
from likelax.adversarial import LOSSES, R1, R2, GradientPenalty, Loss, f_gan
from likelax.testing import check_loss
from likelax.testing.subject import quick_jit

KEY = jax.random.key(3)


# Two densities that are alike in nothing: a skewed mixture, and a Normal.


def p(x):
    return 0.3 * scipy.stats.norm.pdf(x, -1.0, 0.5) + 0.7 * scipy.stats.norm.pdf(x, 1.2, 0.8)


def q(x, a=0.4, b=1.6):
    return scipy.stats.norm.pdf(x, a, b)


def log_p(x):
    parts = [(0.3, -1.0, 0.5), (0.7, 1.2, 0.8)]
    logs = [jnp.log(w / s) - 0.5 * ((x - m) / s) ** 2 for w, m, s in parts]
    return jnp.logaddexp(*logs) - 0.5 * jnp.log(2 * jnp.pi)


def log_q(x, a=0.4, b=1.6):
    return -0.5 * ((x - a) / b) ** 2 - jnp.log(b) - 0.5 * jnp.log(2 * jnp.pi)


GRID = np.linspace(-8, 8, 400)
WHERE = np.flatnonzero(np.diff(np.sign(p(GRID) - q(GRID))))
CROSSINGS = [scipy.optimize.brentq(lambda x: p(x) - q(x), *GRID[[i, i + 1]]) for i in WHERE]
ENDS = [-13.0, *CROSSINGS, 14.0]


def nodes(ends, count=160):
    """Gauss and Legendre's in each of the intervals."""
    at, weight = np.polynomial.legendre.leggauss(count)
    pairs = list(zip(ends[:-1], ends[1:], strict=True))
    x = np.concatenate([(b - a) / 2 * at + (a + b) / 2 for a, b in pairs])
    return x, np.concatenate([(b - a) / 2 * weight for a, b in pairs])


def integral(f):
    pairs = zip(ENDS[:-1], ENDS[1:], strict=True)
    return sum(scipy.integrate.quad(f, a, b, epsabs=1e-13, limit=200)[0] for a, b in pairs)


def kl(f, g):
    return integral(lambda x: f(x) * np.log(f(x) / g(x)))


def half(x):
    return (p(x) + q(x)) / 2


def truth():
    """Each divergence by its textbook formula."""
    js = (kl(p, half) + kl(q, half)) / 2
    tv = integral(lambda x: abs(p(x) - q(x)) / 2)
    return {
        "saturating": js,
        "non_saturating": js,
        "jensen_shannon": js,
        "hinge": tv,
        "total_variation": tv,
        "least_squares": integral(lambda x: (p(x) - q(x)) ** 2 / (p(x) + q(x)) / 2),
        "kl": kl(p, q),
        "reverse_kl": kl(q, p),
        "pearson": integral(lambda x: (p(x) - q(x)) ** 2 / q(x)),
        "squared_hellinger": integral(lambda x: (p(x) ** 0.5 - q(x) ** 0.5) ** 2),
    }


BEST = {  # the critic that is best, by the log-ratio r
    "saturating": lambda r: r,
    "non_saturating": lambda r: r,
    "jensen_shannon": lambda r: r,
    "hinge": jnp.sign,
    "total_variation": lambda r: 60 * jnp.sign(r),
    "least_squares": lambda r: 1 / (1 + jnp.exp(-r)),
    "kl": lambda r: 1 + r,
    "reverse_kl": lambda r: r,
    "pearson": lambda r: 2 * (jnp.exp(r) - 1),
    "squared_hellinger": lambda r: r / 2,
}


@pytest.fixture(scope="module")
def exact():
    return truth()


def bounded(losses):
    """The bound of each loss at the best critic and at two others, and the ratio's error."""
    with jax.enable_x64(True):
        x, w = nodes(ENDS)

        @quick_jit
        def ask(x):
            r = log_p(x) - log_q(x)
            found = {}
            for name, loss in losses.items():
                best = BEST[name](r)
                each = []
                near = jnp.clip(best, -2, 2)
                for v in (best, 0.8 * near + 0.1, near + 0.3 * jnp.sin(x)):
                    cost = jnp.exp(log_p(x)) * loss.real(v) + jnp.exp(log_q(x)) * loss.fake(v)
                    each.append(loss.bound.offset - loss.bound.scale * jnp.sum(w * cost))
                off = 0.0 if loss.log_ratio is None else loss.log_ratio(best) - r
                # Beyond, the outputs of some best critics are 1 but for rounding.
                found[name] = each, jnp.max(jnp.abs(jnp.where(jnp.abs(r) < 12, off, 0)))
            return found

        return jax.device_get(ask(x))


def check_bound(found, wanted):
    (best, *others), off = found
    np.testing.assert_allclose(best, wanted, rtol=1e-10)
    assert all(other < wanted - 1e-4 for other in others), "another critic does as well"
    assert off < 1e-9, "the best critic is no stationary point"


@pytest.fixture(scope="module")
def found():
    return bounded({name: LOSSES[name] for name in BEST})


@pytest.mark.parametrize("name", BEST)
def test_the_best_critic_attains_the_divergence_and_no_other_does(name, found, exact):
    check_bound(found[name], exact[name])


def test_every_loss_with_a_bound_is_looked_at():
    assert {name for name, loss in LOSSES.items() if loss.bound is not None} == set(BEST)


def test_the_boundary_is_where_both_are_as_likely():
    for name, loss in LOSSES.items():
        if name in BEST:
            np.testing.assert_allclose(BEST[name](jnp.zeros(())), loss.boundary, atol=1e-7)
        if loss.log_ratio is not None:
            assert abs(loss.log_ratio(jnp.asarray(loss.boundary))) < 1e-6
            assert abs(loss.log_ratio(jnp.asarray(loss.boundary + 0.1))) > 0.01  # a control
        assert (loss.boundary is None) is (name not in BEST)


def test_the_discriminator_of_goodfellow(exact, found):
    """2 log 2 - 2 JS, from what the bound was worked out of."""
    bound = LOSSES["saturating"].bound
    loss = (bound.offset - found["saturating"][0][0]) / bound.scale
    np.testing.assert_allclose(loss, 2 * np.log(2) - 2 * exact["saturating"], rtol=1e-10)


BROKEN = {  # what has been got wrong in such tables
    "kl": {"fake": jnp.exp},
    "reverse_kl": {"fake": lambda v: v + 1},
    "jensen_shannon": {"fake": jax.nn.softplus},
    "pearson": {"fake": lambda v: v**2 / 2 + v},
    "squared_hellinger": {"fake": lambda v: -jnp.expm1(-v)},
    "least_squares": {"fake": lambda v: (v + 1) ** 2 / 2},
    "saturating": {"fake": lambda v: -jax.nn.softplus(-v)},
    "hinge": {"real": lambda v: jnp.maximum(1 + v, 0)},
}


def test_broken_losses_are_found(exact):
    wrong = bounded({n: dataclasses.replace(LOSSES[n], **b) for n, b in BROKEN.items()})
    for name in BROKEN:
        with pytest.raises(AssertionError, match="Not equal|another critic|no stationary"):
            check_bound(wrong[name], exact[name])


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "pearson", "squared_hellinger"])
def test_a_conjugate_is_a_supremum(name):
    """f*(t) = sup_u (u t - f(u)), by search."""
    f = {
        "kl": lambda u: u * np.log(u),
        "reverse_kl": lambda u: -np.log(u),
        "pearson": lambda u: (u - 1) ** 2,
        "squared_hellinger": lambda u: (u**0.5 - 1) ** 2,
    }[name]
    for v in (-0.9, 0.2, 1.1):
        t = -float(LOSSES[name].real(jnp.asarray(v)))
        below = lambda s, t=t: f(np.exp(s)) - np.exp(s) * t  # noqa: E731
        best = scipy.optimize.minimize_scalar(below, bounds=(-8, 8), method="bounded")
        np.testing.assert_allclose(
            LOSSES[name].fake(jnp.asarray(v)), -best.fun, rtol=1e-5, atol=1e-6
        )


def js(u):
    return (u * jnp.log(u) - (u + 1) * jnp.log((u + 1) / 2)) / 2


F = {
    "saturating": js,
    "hinge": lambda u: jnp.abs(u - 1) / 2,
    "least_squares": lambda u: (u - 1) ** 2 / (u + 1) / 2,
    "kl": lambda u: u * jnp.log(u),
    "squared_hellinger": lambda u: (jnp.sqrt(u) - 1) ** 2,
}


@pytest.mark.parametrize("name", F)
def test_a_search_finds_the_best_critic(name):
    """As users can hold their own losses against it, and some with an error in them."""
    check_loss(LOSSES[name], F[name])
    if name in BROKEN:
        with pytest.raises(AssertionError, match=f"the bound of '{name}' is"):
            check_loss(dataclasses.replace(LOSSES[name], **BROKEN[name]), F[name])
    if name == "kl":
        with pytest.raises(AssertionError, match="log_ratio of 'kl' is off by up to 1"):
            check_loss(dataclasses.replace(LOSSES[name], log_ratio=lambda v: v), F[name])


# The generator at the best critic.


def divergences(theta, x, w):
    """Of p from the Normal of these parameters, by quadrature."""
    lp, lq = log_p(x), log_q(x, *theta)
    pdf, model = jnp.exp(lp), jnp.exp(lq)
    lm = jnp.logaddexp(lp, lq) - jnp.log(2)
    js2 = jnp.sum(w * (pdf * (lp - lm) + model * (lq - lm)))
    reverse = jnp.sum(w * model * (lq - lp))
    return {
        "saturating": js2,
        "non_saturating": reverse - js2,  # Arjovsky and Bottou 2017, theorem 2.5
        "jensen_shannon": js2,
        "kl": jnp.sum(w * pdf * (lp - lq)),
        "reverse_kl": reverse,
        "pearson": jnp.sum(w * (pdf - model) ** 2 / model),
        "squared_hellinger": jnp.sum(w * (jnp.sqrt(pdf) - jnp.sqrt(model)) ** 2),
    }


def test_at_the_best_critic_the_generator_goes_down_the_divergence():
    with jax.enable_x64(True):
        x, w = nodes(np.linspace(-16, 17, 9), 60)
        z, w_z = nodes(np.linspace(-8, 8, 5), 60)
        theta = jnp.array([0.4, 1.6])
        others = {f"{n}, g": f_gan(n, saturating=False) for n in ("kl", "squared_hellinger")}

        def paid(theta, name, loss):
            sample = theta[0] + theta[1] * z
            v = BEST[name](log_p(sample) - log_q(sample))
            return jnp.sum(w_z * jnp.exp(log_q(z, 0.0, 1.0)) * loss.fool(v))

        @quick_jit
        def ask(theta):
            names = divergences(theta, x, w)
            costs = {n: jax.grad(paid)(theta, n, LOSSES[n]) for n in names}
            costs |= {n: jax.grad(paid)(theta, n.split(",")[0], f) for n, f in others.items()}
            return costs, jax.jacobian(divergences)(theta, x, w)

        costs, slopes = jax.device_get(ask(theta))
    for name, slope in slopes.items():
        np.testing.assert_allclose(costs[name], slope, rtol=1e-8, err_msg=name)
    # Negative controls: the other game's gradient is another one.
    assert np.abs(costs["non_saturating"] - slopes["saturating"]).max() > 0.01
    for name in others:
        assert np.abs(costs[name] - slopes[name.split(",")[0]]).max() > 0.01


# Penalties.

W = np.array([0.6, -1.1, 0.9])
NORM = float(np.sqrt(np.sum(W**2)))
PENALTIES = {
    "gradient": (GradientPenalty(10.0), 10 * (NORM - 1) ** 2),
    "one-sided": (GradientPenalty(3.0, one_sided=True), 3 * (NORM - 1) ** 2),
    "R1": (R1(4.0), 2 * NORM**2),
    "R2": (R2(0.5), 0.25 * NORM**2),
}


class NoRoot(GradientPenalty):
    """The square in place of the norm."""

    def cost(self, critic, real, fake, key):
        return self.weight * (R1(2.0).cost(critic, real, fake, key) - 1) ** 2


class NoHalf(R1):
    """A 1/2 that is missing."""

    def cost(self, critic, real, fake, key):
        return 2 * super().cost(critic, real, fake, key)


def test_the_penalty_of_a_linear_critic():
    with jax.enable_x64(True):
        real, fake = (jax.random.normal(jax.random.fold_in(KEY, i), (5, 3)) + 3 + i for i in (0, 1))
        broken = {"gradient": NoRoot(10.0), "R1": NoHalf(4.0)}

        @quick_jit
        def ask(w):
            def cost(penalty, w):
                return jnp.mean(penalty.cost(lambda x: x @ w + 2.0, real, fake, KEY))

            value_and_slope = jax.value_and_grad(cost, argnums=1)
            each = {n: value_and_slope(p, w) for n, (p, _) in PENALTIES.items()}
            wrong = {n: cost(p, w) for n, p in broken.items()}
            flat = jax.grad(lambda w: cost(GradientPenalty(), w))(0 * w)
            small = cost(PENALTIES["one-sided"][0], 0.1 * w)
            bowl = {
                n: p.cost(lambda x: jnp.sum(x**2, -1) / 2, real, fake, KEY)
                for n, p in (("R1", R1(2.0)), ("R2", R2(2.0)), ("gradient", GradientPenalty(1.0)))
            }
            # On the way from 0 to 1 the slope of half the square is the part of the way.
            ends = jnp.ones((400, 1)), jnp.zeros((400, 1))
            part = GradientPenalty(1.0).cost(lambda x: x[:, 0] ** 2 / 2, *ends, KEY)
            return each, wrong, flat, small, bowl, 1 - jnp.sqrt(part)

        each, wrong, flat, small, bowl, part = jax.device_get(ask(jnp.asarray(W)))
        slopes = {
            "gradient": 20 * (NORM - 1) * W / NORM,
            "one-sided": 6 * (NORM - 1) * W / NORM,
            "R1": 4 * W,
            "R2": 0.5 * W,
        }
        for name, (_, wanted) in PENALTIES.items():
            np.testing.assert_allclose(each[name][0], wanted, rtol=1e-10)
            np.testing.assert_allclose(each[name][1], slopes[name], rtol=1e-10)
        for name, value in wrong.items():
            assert abs(value - PENALTIES[name][1]) > 0.1
        assert np.all(np.isfinite(flat)) and small == 0
        # Where they look: of half the squared norm the slope is x itself.
        np.testing.assert_allclose(bowl["R1"], np.sum(real**2, -1), rtol=1e-10)
        np.testing.assert_allclose(bowl["R2"], np.sum(fake**2, -1), rtol=1e-10)
        norm = 1 + np.sqrt(bowl["gradient"])
        path = np.linspace(0, 1, 2001)[:, None, None]
        norms = np.linalg.norm(path * real + (1 - path) * fake, axis=-1)
        assert np.all((norms.min(0) <= norm) & (norm <= norms.max(0)))
        assert scipy.stats.kstest(part, "uniform").pvalue > 1e-4  # one for all would be none


BAD = {
    "another relation": (lambda: Loss("x", abs, abs, relative="all"), 'relative is None, "pairs"'),
    "no cost of the generator": (lambda: Loss("x", abs, abs), "exactly one of them"),
    "two of them": (lambda: Loss("x", abs, abs, abs, relative="pairs"), "exactly one of them"),
    "no bound": (
        lambda: check_loss(LOSSES["wasserstein"], jnp.abs),
        "a loss that bounds a divergence wanted.*bound=lx.adversarial.Bound",
    ),
    "another divergence": (lambda: f_gan("js"), "divergence is one of kl, reverse_kl"),
    "a negative weight": (
        lambda: R1(-1.0),
        r"R1: weight is at least 0 and finite, got -1.0; write R1\(10.0\)",
    ),
    "no end": (lambda: R1(np.inf), "R1: weight is at least 0 and finite, got inf"),
    "no number": (lambda: R1(float("nan")), "R1: weight is at least 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_losses_and_penalties(name):
    make, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        make()


def test_a_loss_of_my_own():
    cubic = Loss("cubic", real=lambda v: -v, fake=lambda v: v + v**2, fool=lambda v: -v)
    model = lx.adversarial.GAN(None, None, lx.Normal(0.0, 1.0), cubic)
    assert model.loss is cubic
