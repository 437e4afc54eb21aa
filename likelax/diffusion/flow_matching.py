"""Flow matching: a velocity that carries noise, or other data, onto data."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from likelax._keys import check_key, stream
from likelax._mesh import divided, with_auto_axes
from likelax._pytree import Array
from likelax.diffusion._noise import normal_like, uniform_like
from likelax.diffusion.data import Pixels
from likelax.diffusion.model import DiffusionModel
from likelax.diffusion.paths import Lipman, SchrodingerBridge
from likelax.diffusion.process import Level, Process
from likelax.diffusion.schedules import Cosine, Straight
from likelax.diffusion.times import IndependentTimes, StratifiedTimes
from likelax.diffusion.transport import transport
from likelax.networks import Variables
from likelax.numerics.logspace import sigmoid
from likelax.numerics.normal import ndtri
from likelax.objective import Batch, Claim, Scores, trailing

PathName = Literal["linear", "cosine", "lipman", "schrodinger_bridge"]
Times = Literal["stratified", "independent", "logit_normal"]

# The path and the schedule of a process, of which time is the paper's.
_PATHS: dict[str, tuple[Any, Any]] = {
    "linear": ("straight", Straight()),
    "cosine": ("variance_preserving", Cosine()),
}
# Where the odds of noise are 1e-5 and 1e5: data and noise but for rounding.
_ENDS = 1e-5


class Pairs(NamedTuple):
    """A `Batch.target` of pairs, each `(batch, *event)`.

    Attributes:
      source: where the path of each example begins, in the model's own units.
      target: where it ends, in those of the data.
    """

    source: Any
    target: Any


class FlowMatching(DiffusionModel):
    """E |u - u_hat(z, t)|^2, the regression of the velocity u = dz/dt of paths from noise e at t = 0 to
    data x at t = 1 (Lipman et al. 2023; Liu et al. 2023; Albergo and Vanden-Eijnden 2023).

    ::

        model = lx.diffusion.FlowMatching(net)             # net(z, t) -> dz/dt, all (batch, *event)
        params, state = model.init(key, lx.Batch(x))
        ...                                                # train it
        lx.evaluate(lx.diffusion.ODELikelihood(model), params, key, batches)    # -log p(x)

    The number is no likelihood. That of the trained model, the density that its velocity makes of
    standard Normal noise, is `lx.diffusion.ODELikelihood`'s, exact up to the solver's tolerance.

    A target that is `lx.diffusion.Pairs(source, target)` has its own beginning: other data, or noise
    that `lx.diffusion.reflow` has paired. The denoiser then splits the velocity into what samplers call
    data and noise: those that solve the differential equation are right, while stochastic ones, for
    which the noise must be independent of the data, are not; nor with coupled or bridged paths.

    Whole numbers, `Pixels`, are dequantized uniformly.

    Args:
      net, data, condition_dropout, null: as for `DiffusionModel`; the network is told the time and gives
        the velocity.
      path: "linear", z = t x + (1 - t) e; "cosine", sin(pi t / 2) x + cos(pi t / 2) e; "lipman" or a
        `Lipman(sigma_min)`; "schrodinger_bridge" or a `SchrodingerBridge(scale)`. Times stop 1e-5
        short of 0 and 1.
      coupling: "independent", or "optimal_transport": within each batch, data and sources are matched
        by the least sum of squared distances, with SciPy on the host (Pooladian et al. 2023; Tong et al.
        2024). The loss then depends on the batch's size, and the sources of an input's examples are no
        longer those of all noise: use it without inputs.
      times: "stratified", one in each of `batch` equal parts of [0, 1]; "independent"; or
        "logit_normal", the sigmoid of standard Normal numbers, stratified (Esser et al. 2024, sec. 3.1).

    Raises:
      ValueError: for a path, a coupling or times that are none.
    """

    claim = Claim("none")
    dequantization = "uniform"  # what `ODELikelihood` does unless it is told

    def __init__(
        self,
        net: Any,
        *,
        path: PathName | Lipman | SchrodingerBridge = "linear",
        coupling: Literal["independent", "optimal_transport"] = "independent",
        data: Any = None,
        times: Times = "stratified",
        condition_dropout: float = 0.0,
        null: Any = None,
    ):
        if coupling not in ("independent", "optimal_transport"):
            raise ValueError(
                f'FlowMatching: coupling is "independent" or "optimal_transport", got {coupling!r}'
            )
        if times not in ("stratified", "independent", "logit_normal"):
            raise ValueError(
                'FlowMatching: times are "stratified", "independent" or "logit_normal", got '
                f"{times!r}"
            )
        super().__init__(
            process_along(path),
            net,
            "velocity",
            data=data,
            level="time",
            condition_dropout=condition_dropout,
            null=null,
        )
        self.path, self.coupling, self.times = self.process.path, coupling, times

    def init(self, key: Array, batch: Batch) -> Variables:
        return super().init(key, dataclasses.replace(batch, target=self._data_of(batch.target)))

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        source, target = _pair(batch.target)
        x = self._filled(stream(key, "dequantization"), target, keep)
        source = self._source(key, source, x, self._seen(target, keep))
        level = self.process.at(self._times(stream(key, "times"), x.shape[0]))
        z, velocity = self._between(stream(key, "bridge"), x, source, level)
        output, state = self._output(
            params, z, level, batch.input, key=stream(key, "net"), state=state, train=train
        )
        error = jnp.sum((velocity - output) ** 2, axis=tuple(range(1, x.ndim)))
        return Scores(self._priced(error, target), {}, state, self.claim)

    def _data_of(self, target: Any) -> Any:
        return _pair(target)[1]

    def _filled(self, key: Array, target: Any, keep: Array | None) -> Array:
        """Data in the model's units; whole numbers anywhere in their bins."""
        x = self._encoded(target, keep)
        if not isinstance(self.data, Pixels):
            return x
        return self.data.encoded(jnp.asarray(target), keep, uniform_like(key, x))

    def _source(self, key: Array, source: Any, x: Array, keep: Array | None) -> Array:
        """Where each path begins, of the shape of x."""
        if source is None:
            source = normal_like(stream(key, "source"), x)
        elif jnp.shape(source) != x.shape:
            raise ValueError(
                f"FlowMatching: source and target of a pair have one shape, got {jnp.shape(source)} "
                f"and {x.shape}"
            )
        source = jnp.asarray(source).astype(x.dtype)
        if keep is not None:
            source = jnp.where(trailing(keep, x.ndim), source, 0)
        return source if self.coupling == "independent" else transported(x, source, keep)

    def _times(self, key: Array, count: int) -> Array:
        """In [0, 1], one for each example."""
        kind = IndependentTimes() if self.times == "independent" else StratifiedTimes()
        uniform = kind.draw(key, count, ()).time
        return sigmoid(ndtri(uniform)) if self.times == "logit_normal" else uniform

    def _between(self, key: Array, x: Array, source: Array, level: Level) -> tuple[Array, Array]:
        """z and its velocity."""
        if isinstance(self.path, SchrodingerBridge):
            return self.path.bridged(x, source, normal_like(key, x), level)
        at = level.like(x)
        velocity = at.alpha_rate * x + at.sigma_rate * source
        return at.alpha * x + at.sigma * source, velocity


def process_along(path: Any) -> Process:
    """The process of a path of flow matching, with data at time 1."""
    named: dict[str, Any] = {"lipman": Lipman(), "schrodinger_bridge": SchrodingerBridge()}
    found = named.get(path, path) if isinstance(path, str) else path
    if not isinstance(found, Lipman | SchrodingerBridge) and found not in list(_PATHS):
        raise ValueError(
            f"FlowMatching: path is one of {sorted([*_PATHS, *named])}, a lx.diffusion.Lipman or a "
            f"lx.diffusion.SchrodingerBridge, got {path!r}"
        )
    kind, schedule = _PATHS[found] if isinstance(found, str) else (found, found)
    top, bottom = 2 * math.log(1 / _ENDS), 2 * math.log(_ENDS)
    if isinstance(found, Lipman):
        top = -2 * math.log(found.sigma_min)
    if isinstance(found, SchrodingerBridge):
        top = -math.log(_ENDS) - math.log(_ENDS + found.scale**2)
    return Process(kind, schedule, top, bottom, data_at=1)


def transported(x: Array, source: Array, keep: Array | None) -> Array:
    """The sources, `(batch, *event)`, in the order that has the least sum of |x - source|^2; those that
    are not kept stay where they are.
    """
    keep = jnp.ones(x.shape[0], bool) if keep is None else keep.reshape(x.shape[:1])

    def matched(x: Array, source: Array, keep: Array) -> Array:
        # Of |x - source|^2 only the product depends on the matching.
        flat = (jax.lax.stop_gradient(a).reshape(a.shape[0], -1) for a in (x, source))
        cost = -jnp.einsum("id,jd->ij", *flat, precision="highest")
        shape = jax.ShapeDtypeStruct(keep.shape, jnp.int32)
        order = jax.pure_callback(_assignment, shape, cost, keep, vmap_method="sequential")
        return source[order]

    return with_auto_axes(matched, divided(1, x))(x, source, keep)


def _assignment(cost: Any, keep: Any) -> np.ndarray:
    from scipy.optimize import linear_sum_assignment

    cost, rows = np.asarray(cost), np.flatnonzero(keep)
    order = np.arange(len(cost), dtype=np.int32)
    chosen = cost[np.ix_(rows, rows)]
    if np.all(np.isfinite(chosen)):  # a loss of NaN says the rest
        order[rows] = rows[linear_sum_assignment(chosen)[1]]
    return order


def _pair(target: Any) -> tuple[Any, Any]:
    """A source, or None, and a target."""
    return tuple(target) if isinstance(target, Pairs) else (None, target)


def reflow(
    model: DiffusionModel,
    params: Any,
    key: Array,
    shape: tuple[int, ...],
    *,
    input: Any = None,
    state: Any = (),
    **options: Any,
) -> Pairs:
    """Noise and what a trained model makes of it along its differential equation, to train a
    `FlowMatching` on whose paths are straighter (Liu et al. 2023, sec. 2.2); it needs diffrax.

    Args:
      model, params, state: as from `init` or training.
      key: a random key.
      shape: `(batch, *event)`.
      input: of a conditional model, one for each example.
      options: as for `lx.diffusion.transport`.
    """
    noise = normal_like(check_key(key), jnp.zeros(shape))
    first, last = model.process_of(params).ends()
    start = jnp.hypot(last.alpha, last.sigma) * noise
    z = transport(model, params, start, to="data", input=input, state=state, **options)
    return Pairs(noise, model.data.decoded(z / first.alpha))
