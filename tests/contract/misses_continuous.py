"""Rows of the continuous families that miss: see `misses`."""

_LOG_NORMAL = (
    "log(x) - loc is a difference of rounded logarithms, which a small scale magnifies: a logarithm in two "
    "words takes 1.6 times (to 33 digits) or 4 times (to 46) as long for value and slopes"
)
_LOG_RATE = (
    "a large concentration magnifies the rounding of exp(log_rate): with a logarithm in two words value and "
    "slopes take 2 times (to 33 digits) or 5 times (to 46) as long"
)
_MASS_SLOPES = (
    "slopes of a density and of a mass, each within a few roundings of its own, cancel to a fortieth of them: "
    "of shapes above 500, whose slopes are sqrt(shape) times those of shape 1"
)
_NARROW = (
    "of large shapes the log-density at the nodes of a narrow interval's integral is some 10 in size, and rounded "
    "as that; unlike a scale, the Beta's has no unit to be taken out"
)
MISSES: dict[tuple[str, str], tuple[float, str]] = {
    ("Truncated(Gamma)", "log_prob/4"): (60.0, _MASS_SLOPES),
    ("Truncated(Beta)", "log_cdf"): (13.0, _NARROW),
    ("Truncated(Beta)", "log_survival"): (12.5, _NARROW),
    ("Truncated(Beta)", "log_cdf/3"): (70.0, _MASS_SLOPES),
    ("Truncated(Beta)", "log_cdf/4"): (70.0, _MASS_SLOPES),
    ("Truncated(Beta)", "log_survival/3"): (80.0, _MASS_SLOPES),
    ("Truncated(Beta)", "log_survival/4"): (80.0, _MASS_SLOPES),
    ("LogNormal", "log_prob"): (1.3e7, _LOG_NORMAL),
    ("LogNormal", "log_prob/0"): (1e7, _LOG_NORMAL),
    ("LogNormal", "log_prob/1"): (1e7, _LOG_NORMAL),
    ("LogNormal", "log_prob/2"): (1.1e7, _LOG_NORMAL),
    ("Gamma(log_rate)", "log_prob"): (3e7, _LOG_RATE),
    ("Gamma(log_rate)", "log_prob/0"): (1.2e7, _LOG_RATE),
    ("Gamma(log_rate)", "log_prob/1"): (1.2e7, _LOG_RATE),
    ("Gamma(log_rate)", "log_prob/2"): (1.2e7, _LOG_RATE),
}
MISSES_FLOAT64: dict[tuple[str, str], tuple[float, str]] = {
    ("Truncated(Gamma)", "log_prob/3"): (60.0, _MASS_SLOPES),
    ("Truncated(Gamma)", "log_prob/4"): (80.0, _MASS_SLOPES),
    ("Truncated(Beta)", "log_survival"): (12.0, _NARROW),
    ("Truncated(Beta)", "log_cdf/3"): (60.0, _MASS_SLOPES),
    ("Truncated(Beta)", "log_survival/3"): (66.0, _MASS_SLOPES),
    ("Truncated(Beta)", "log_survival/4"): (60.0, _MASS_SLOPES),
    ("LogNormal", "log_prob"): (7e7, _LOG_NORMAL),
    ("LogNormal", "log_prob/0"): (3.5e7, _LOG_NORMAL),
    ("LogNormal", "log_prob/1"): (3.5e7, _LOG_NORMAL),
    ("LogNormal", "log_prob/2"): (7e7, _LOG_NORMAL),
    ("Gamma(log_rate)", "log_prob"): (4.5e7, _LOG_RATE),
    ("Gamma(log_rate)", "log_prob/0"): (2.5e7, _LOG_RATE),
    ("Gamma(log_rate)", "log_prob/1"): (3e7, _LOG_RATE),
    ("Gamma(log_rate)", "log_prob/2"): (3e7, _LOG_RATE),
}
