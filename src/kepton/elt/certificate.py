"""The audit's arithmetic: exact binomial bounds, how many draws are needed, what is claimed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, log
from typing import Any

import numpy as np
from scipy.special import bdtr
from scipy.stats import beta

PROBABLY = 0.8
"""How likely the models should pass an audit when it begins: in four of five tries."""


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


@cache
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
        return float(bdtr(self.allowed, self.draws, failing))


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
        if best.passes(failing) >= PROBABLY:
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


def describe(verdict: Verdict) -> dict[str, Any]:
    """An audit as plain data: plan, failures, proved coverage, and quantiles of the error."""
    errors = np.array(verdict.errors)
    quantiles = {
        f"{q:.0%}": float(np.quantile(errors, q, method="higher")) for q in (0.5, 0.9, 0.95)
    }
    return {
        "number": verdict.plan.number,
        "draws_planned": verdict.plan.draws,
        "draws": len(verdict.errors),
        "failures_allowed": verdict.plan.allowed,
        "failures": verdict.failures,
        "risk": verdict.plan.risk,
        "passed": verdict.passed,
        "proved_coverage": verdict.coverage,
        "error_quantiles": quantiles | {"max": float(errors.max())},
    }


def certificate(
    verdicts: Sequence[Verdict],
    target: float,
    unit: str,
    confidence: float,
    coverage: float,
    ending: str,
) -> dict[str, Any]:
    """What the audits of a campaign prove, in words and in numbers.

    Args:    ending: why the campaign ended, in words
    Returns: JSON: `certified`, `claim`, `missing`, `audits`, ...
    """
    claim = (
        f"With confidence {confidence:.0%}, at least {coverage:.0%} of the configurations that "
        f"this model's dynamics visits under the conditions below have a force error below "
        f"{target:g} {unit}."
    )
    certified = bool(verdicts) and verdicts[-1].passed
    missing = None
    if not certified:
        reached = "No audit was made. "
        if verdicts:
            last = verdicts[-1]
            median, most = np.quantile(last.errors, (0.5, 0.95), method="higher")
            reached = (
                f"The last audit drew {len(last.errors)} configurations, of which "
                f"{last.failures} were not below the target; with {last.plan.allowed} allowed it "
                f"failed. Half of the errors were up to {median:.3g} {unit}, 95% up to {most:.3g}. "
                f"At its share of the risk ({last.plan.risk:.3g}) it proves a coverage of "
                f"{last.coverage:.1%}, where {coverage:.0%} was asked for. "
            )
        missing = f"Not certified: {ending} {reached}More labels, or a higher target, are needed."
    return {
        "certified": certified,
        "claim": claim if certified else None,
        "missing": missing,
        "target": target,
        "unit": unit,
        "confidence": confidence,
        "coverage": coverage,
        "audits": [describe(verdict) for verdict in verdicts],
    }
