"""The audit's arithmetic: exact binomial bounds, how many draws are needed, what is claimed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from math import ceil, log
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.stats import beta, binom

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
    """Error probability that audit 1, 2, ... may spend: four fifths of what is left of it.

    4 (1 - confidence) / 5^audit

    Most campaigns have one audit, which so needs fewer draws: 63 and not 72, where each has half.
    """
    return 4.0 * (1.0 - confidence) / 5.0**audit


@dataclass(frozen=True)
class Plan:
    """An audit fixed before its first draw, in stages.

    It passes at the first stage j at which at most j of the n_j draws made have failed.

    Pr(pass | p = failing) = sum_j Pr(j of n_j draws fail, and no earlier stage was passed)

    Args:
        number: 1 for the first audit of a campaign
        stages: n_0 < n_1 < ...
        risk: probability, at most, that models pass whose coverage is less than was asked for
    Source: group sequential tests, Jennison and Turnbull, Group Sequential Methods (2000), ch. 12
    """

    number: int
    stages: tuple[int, ...]
    risk: float

    @property
    def draws(self) -> int:
        """Draws that it may need."""
        return self.stages[-1]

    @property
    def allowed(self) -> int:
        """Failures with which it may still pass."""
        return len(self.stages) - 1

    def outcomes(self, failing: float) -> np.ndarray:
        """(stages,) probability to pass at each, for models failing on this fraction."""
        return _outcomes(self.stages, failing)

    def passes(self, failing: float) -> float:
        """Probability that models failing on this fraction of configurations pass."""
        return float(self.outcomes(failing).sum())

    def expected_draws(self, failing: float) -> float:
        """Draws made on average, where an audit that fails makes all of them."""
        passed = self.outcomes(failing)
        return float(passed @ self.stages + (1.0 - passed.sum()) * self.draws)


@lru_cache(4096)
def _outcomes(stages: tuple[int, ...], failing: float) -> np.ndarray:
    """See `Plan.outcomes`."""
    count = np.arange(len(stages))
    going = np.zeros(len(stages))  # probability that j draws failed and no stage was passed
    going[0], made, passed = 1.0, 0, []
    for stage, draws in enumerate(stages):
        more = binom.pmf(count, draws - made, failing)
        going, made = np.convolve(going, more)[: len(stages)], draws
        passed.append(going[: stage + 1].sum())
        going[: stage + 1] = 0.0
    passed = np.array(passed)
    passed.flags.writeable = False
    return passed


@cache
def staged(coverage: float, risk: float, allowed: int) -> tuple[int, ...]:
    """The draws of stages that share the risk evenly, the last allowing so many failures.

    n_j is what `draws_needed` says for j failures at a risk that is the same for all stages, the
    largest with which all of them together pass with at most `risk` at this coverage.
    """

    def stages(each: float) -> tuple[int, ...]:
        return tuple(draws_needed(coverage, each, j) for j in range(allowed + 1))

    low, high = risk / (allowed + 1), risk
    if _outcomes(stages(high), 1.0 - coverage).sum() <= risk:
        return stages(high)
    while high - low > 1e-3 * risk:
        middle = 0.5 * (low + high)
        safe = _outcomes(stages(middle), 1.0 - coverage).sum() <= risk
        low, high = (middle, high) if safe else (low, middle)
    return stages(low)


def plan(
    number: int,
    confidence: float,
    coverage: float,
    failing: float,
    affordable: int,
    most_allowed: int,
    worth: float = float("inf"),
) -> Plan | None:
    """The cheapest audit that models failing on a fraction `failing` pass in four of five tries.

    Where there is none, the one they pass most probably; None where not even an audit without
    failures is affordable.

    Args:
        affordable: draws at most
        worth: draws on average at most, for an audit that allows failures
    """
    risk = risk_of(number, confidence)
    plans = [
        Plan(number, staged(coverage, risk, allowed), risk) for allowed in range(most_allowed + 1)
    ]
    plans = [one for one in plans if one.draws <= affordable]
    plans = plans[:1] + [one for one in plans[1:] if one.expected_draws(failing) <= worth]
    probable = [one for one in plans if one.passes(failing) >= PROBABLY]
    if probable:
        return min(probable, key=lambda one: one.expected_draws(failing))
    return max(plans, key=lambda one: one.passes(failing), default=None)


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
    def due(self) -> int:
        """Draws still to be made before the next stage that it may pass; 0 when it is over."""
        if self.failures > self.plan.allowed:
            return 0
        return self.plan.stages[self.failures] - len(self.errors)

    @property
    def over(self) -> bool:
        """It has passed a stage, or so many draws failed that it cannot pass any more."""
        return self.due <= 0

    @property
    def passed(self) -> bool:
        """The coverage is proved."""
        return self.over and self.failures <= self.plan.allowed

    @property
    def coverage(self) -> float:
        """The proved fraction below the target, at this audit's risk.

        One that passes proves the fraction at which models pass at this stage or an earlier one
        with a probability of `risk`. One that does not, cut short at its (c + 1)-th failure, proves
        what it would have proved with n draws and n - (m - c - 1) failures, m draws made: as if all
        the rest had failed.
        """
        plan = self.plan
        if self.passed:
            stages = plan.stages[: self.failures + 1]
            failing: Any = brentq(lambda p: _outcomes(stages, p).sum() - plan.risk, 0.0, 1.0)
            return 1.0 - failing
        missing = plan.draws - len(self.errors)
        return coverage_bound(plan.draws, self.failures + missing, plan.risk)


def describe(verdict: Verdict) -> dict[str, Any]:
    """An audit as plain data: stages, failures, proved coverage, and quantiles of the error."""
    errors = np.array(verdict.errors)
    quantiles = {
        f"{q:.0%}": float(np.quantile(errors, q, method="higher")) for q in (0.5, 0.9, 0.95)
    }
    return {
        "number": verdict.plan.number,
        "stages": list(verdict.plan.stages),
        "draws": len(verdict.errors),
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
    about: str,
    confidence: float,
    coverage: float,
    ending: str,
) -> dict[str, Any]:
    """What the audits of a campaign prove, in words and in numbers.

    Args:
        about: what has which error, in words that "below" can follow
        ending: why the campaign ended, in words
    Returns: JSON: `certified`, `claim`, `missing`, `audits`, ...
    """
    claim = (
        f"With confidence {confidence:.0%}, at least {coverage:.0%} of the {about} below "
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
                f"The last audit drew {len(last.errors)} samples, of which "
                f"{last.failures} were not below the target; with {last.plan.allowed} allowed it "
                f"failed. Half of the errors were up to {median:.3g} {unit}, 95% up to {most:.3g}. "
                f"At its share of the risk ({last.plan.risk:.3g}) it proves a coverage of "
                f"{last.coverage:.1%}, where {coverage:.0%} was asked for. "
            )
        remedy = "More labels, a larger model or a higher target are needed."
        missing = f"Not certified: {ending} {reached}{remedy}"
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
