"""The audit's arithmetic: exact binomial bounds, how many draws are needed, what is claimed."""

from dataclasses import dataclass
from math import ceil, log

import numpy as np
from scipy.stats import beta, binom


def coverage_bound(draws: int, failures: int, risk: float) -> float:
    """Lower confidence bound on the fraction of all configurations that would pass.

    Pr(at most `failures` fail | fraction = bound) = risk       (Clopper-Pearson, one-sided)

    Args:    draws: n independent draws;  failures: how many of them failed;  risk: alpha
    Returns: in [0, 1]; with probability 1 - alpha over the draws the true fraction is not below
    Source:  Clopper and Pearson, Biometrika 26, 404 (1934)
    """
    if failures >= draws:
        return 0.0
    return float(beta.ppf(risk, draws - failures, failures + 1))


def error_bound(errors: np.ndarray, coverage: float, risk: float) -> float:
    """Upper confidence bound on the `coverage` quantile of the error, free of distributions.

    The smallest order statistic e_(k) with Pr(Binomial(n, coverage) < k) >= 1 - risk.

    Args:    errors: (n,) of the draws, inf for a failure
    Returns: in the unit of errors; inf where n is too small
    Source:  Wilks, Ann. Math. Stat. 12, 91 (1941)
    """
    n = len(errors)
    k = np.arange(1, n + 1)
    enough = np.nonzero(binom.cdf(k - 1, n, coverage) >= 1.0 - risk)[0]
    return float(np.sort(errors)[enough[0]]) if len(enough) else float("inf")


def draws_needed(coverage: float, risk: float, failures: int = 0) -> int:
    """Draws with which so many failures still prove the coverage at this risk."""
    n = ceil(log(risk) / log(coverage)) if failures == 0 else failures + 1
    while coverage_bound(n, failures, risk) < coverage:
        n += 1
    return n


def risk_of(audit: int, confidence: float) -> float:
    """Error probability that audit 1, 2, ... may spend: (1 - confidence) / 2^audit."""
    return (1.0 - confidence) / 2.0**audit


@dataclass(frozen=True)
class Plan:
    """An audit fixed before its first draw.

    Args:
        number: 1 for the first audit of a campaign
        draws: n
        allowed: failures with which it still passes
        risk: error probability it spends
    """

    number: int
    draws: int
    allowed: int
    risk: float

    def passes(self, failing: float) -> float:
        """Probability that models failing on this fraction of configurations pass."""
        return float(binom.cdf(self.allowed, self.draws, failing))


def plan(
    number: int,
    confidence: float,
    coverage: float,
    failing: float,
    affordable: int,
    most_allowed: int,
) -> Plan | None:
    """The smallest audit that models failing on a fraction `failing` pass in four of five tries.

    Where that is not affordable, or would allow more than `most_allowed` failures, the largest
    that is; None where not even an audit without failures is affordable.
    """
    risk = risk_of(number, confidence)
    best = None
    for allowed in range(most_allowed + 1):
        draws = draws_needed(coverage, risk, allowed)
        if draws > affordable:
            break
        best = Plan(number, draws, allowed, risk)
        if best.passes(failing) >= 0.8:
            break
    return best


@dataclass(frozen=True)
class Verdict:
    """What one audit proved.

    Args:
        plan: what was planned
        errors: of the draws made, in order; inf for a walk that broke or a label that failed
        target: error below which a draw passes
    """

    plan: Plan
    errors: tuple[float, ...]
    target: float

    @property
    def failures(self) -> int:
        """Draws that are not below the target; nan is a failure."""
        return sum(not error < self.target for error in self.errors)

    @property
    def over(self) -> bool:
        """All draws are made, or so many failed that it cannot pass any more."""
        return len(self.errors) == self.plan.draws or self.failures > self.plan.allowed

    @property
    def passed(self) -> bool:
        """The coverage is proved."""
        return len(self.errors) == self.plan.draws and self.failures <= self.plan.allowed

    @property
    def coverage(self) -> float:
        """The proved fraction below the target, at this audit's risk.

        An audit that is cut short at its (c + 1)-th failure proves what it would have proved with
        n draws and n - (m - c - 1) failures, m draws made: as if all the rest had failed.
        """
        missing = self.plan.draws - len(self.errors)
        return coverage_bound(self.plan.draws, self.failures + missing, self.plan.risk)
