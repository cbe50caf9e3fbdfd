"""A certificate is false no more often than it says, whatever the models and the exploration."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binom, binomtest

from kepton.elt.campaign import (
    MOST_ALLOWED_FAILURES,
    Audit,
    Campaign,
    Distil,
    Goal,
    Label,
    Seed,
    Stop,
    Train,
)
from kepton.elt.certificate import (
    Plan,
    Verdict,
    certificate,
    coverage_bound,
    describe,
    draws_needed,
    plan,
    risk_of,
    staged,
)
from kepton.elt.journal import Event


@pytest.mark.parametrize(
    ("draws", "failures", "risk"),
    [(59, 0, 0.05), (10, 3, 0.1), (72, 1, 0.025), (200, 7, 1e-3), (1, 0, 0.5), (5, 4, 0.05)],
)
def test_the_bound_is_the_fraction_at_which_so_few_failures_have_that_probability(
    draws, failures, risk
):
    bound = coverage_bound(draws, failures, risk)
    solved = brentq(
        lambda q: binom.cdf(failures, draws, 1 - q) - risk, 1e-12, 1 - 1e-12, xtol=1e-14
    )
    assert bound == pytest.approx(solved, abs=1e-9)
    # a one-sided bound at alpha is one side of the exact two-sided interval at 2 alpha
    if 2 * risk < 1:
        two_sided = binomtest(draws - failures, draws).proportion_ci(1 - 2 * risk, "exact")
        assert bound == pytest.approx(two_sided.low, abs=1e-9)


def test_bounds_in_tables():
    """Without a failure alpha^(1/n); 0.6058 for one of ten is in every table of Clopper-Pearson."""
    assert coverage_bound(59, 0, 0.05) == pytest.approx(0.05 ** (1 / 59), rel=1e-12)
    assert coverage_bound(10, 1, 0.05) == pytest.approx(0.6058, abs=5e-5)
    assert coverage_bound(7, 7, 0.05) == 0.0
    assert coverage_bound(7, 9, 0.05) == 0.0


def test_draws_that_are_needed():
    """The last four are Wilks's 95/95 sample sizes, known to every safety engineer."""
    assert draws_needed(0.95, 0.025) == 72
    assert [draws_needed(0.95, 0.05, c) for c in range(4)] == [59, 93, 124, 153]
    for failures in range(4):
        n = draws_needed(0.9, 0.01, failures)
        assert coverage_bound(n, failures, 0.01) >= 0.9 > coverage_bound(n - 1, failures, 0.01)


def test_all_audits_together_spend_no_more_than_the_risk():
    risks = [risk_of(k, 0.95) for k in range(1, 60)]
    assert risks[0] == pytest.approx(0.04)
    assert all(b == pytest.approx(a / 5) for a, b in pairwise(risks))
    assert sum(risks) <= 0.05 + 1e-15


@pytest.mark.parametrize(("coverage", "risk"), [(0.95, 0.025), (0.9, 0.01), (0.99, 0.1)])
def test_an_audit_of_one_stage_is_a_binomial_test(coverage, risk):
    stages = staged(coverage, risk, 0)
    assert stages == (draws_needed(coverage, risk),)
    for failing in (0.0, 0.003, 0.2, 1.0):
        assert Plan(1, stages, risk).passes(failing) == pytest.approx((1 - failing) ** stages[0])


@pytest.mark.parametrize("allowed", [1, 2, 3])
def test_stages_together_spend_the_risk_and_no_more(allowed):
    for coverage, risk in ((0.95, 0.025), (0.9, 0.1)):
        audit = Plan(1, staged(coverage, risk, allowed), risk)
        assert audit.allowed == allowed
        assert 0.9 * risk < audit.passes(1 - coverage) <= risk
        # by pieces it is more cautious than a test of the last stage alone, or of the first
        each = coverage_bound(audit.stages[0], 0, risk), coverage_bound(audit.draws, allowed, risk)
        assert min(each) > coverage


def walked(stages, fails):
    """Draws made and whether it passed, by going through the draws one by one."""
    for made in range(1, stages[-1] + 1):
        failed = int(fails[:made].sum())
        if failed < len(stages) and made == stages[failed]:
            return made, True
        if failed == len(stages):
            return made, False
    raise AssertionError(stages)


@pytest.mark.parametrize("failing", [0.005, 0.05, 0.2])
def test_the_probability_to_pass_is_what_many_audits_do(failing):
    rng, repeats, audit = np.random.default_rng(2), 3000, Plan(1, (12, 20, 26), 0.1)
    ends = [walked(audit.stages, rng.random(26) < failing) for _ in range(repeats)]
    for stage, probability in zip(audit.stages, audit.outcomes(failing)):
        found = sum(end == (stage, True) for end in ends)
        width = np.sqrt(repeats * probability * (1 - probability))
        assert abs(found - repeats * probability) < 4 * width + 1
    made = [draws if passed else audit.draws for draws, passed in ends]
    assert np.mean(made) == pytest.approx(audit.expected_draws(failing), abs=0.5)


def test_a_plan_is_the_cheapest_that_good_models_probably_pass():
    assert plan(1, 0.95, 0.95, 0.0, 63, 3) == Plan(1, (63,), risk_of(1, 0.95))
    assert plan(1, 0.95, 0.95, 0.0, 62, 3) is None
    ample = plan(1, 0.95, 0.95, 0.01, 500, 3)
    assert ample.passes(0.01) >= 0.8
    fewer = Plan(1, staged(0.95, ample.risk, ample.allowed - 1), ample.risk)
    assert fewer.passes(0.01) < 0.8
    # where none is passed in four of five tries, it is the one that is passed most often
    for failing, affordable, allowed in (
        (0.02, 500, 3),
        (0.02, 140, 1),
        (0.02, 100, 0),
        (0.5, 500, 0),
    ):
        assert plan(1, 0.95, 0.95, failing, affordable, 3).allowed == allowed
    # one with stages is made only where it is worth its draws
    assert plan(1, 0.95, 0.95, 0.01, 500, 3, worth=80.0).allowed == 0


PLAN = Plan(1, (81, 120), 0.025)


def test_errors_that_are_not_below_the_target_are_failures():
    verdict = Verdict(PLAN, (0.1, 0.2, np.nan, np.inf, -np.inf), target=0.2)
    assert verdict.failures == 3
    assert verdict.over
    assert not verdict.passed


def test_an_audit_passes_at_a_stage_and_nowhere_else():
    young = Verdict(PLAN, (0.0,) * 80, 0.2)
    assert (young.due, young.over, young.passed) == (1, False, False)
    first = Verdict(PLAN, (0.0,) * 81, 0.2)
    assert (first.due, first.over, first.passed) == (0, True, True)
    with_one = Verdict(PLAN, (0.3,) + (0.0,) * 80, 0.2)
    assert (with_one.due, with_one.over, with_one.passed) == (39, False, False)
    second = Verdict(PLAN, (0.3,) + (0.0,) * 119, 0.2)
    assert (second.over, second.passed) == (True, True)
    assert first.coverage > second.coverage >= 0.95
    failed = Verdict(PLAN, (0.0,) * 118 + (0.3, 0.3), 0.2)
    assert (failed.over, failed.passed) == (True, False)


def test_an_audit_cut_short_proves_as_if_all_the_rest_had_failed():
    short = Verdict(PLAN, (0.0,) * 46 + (0.3, 0.3), 0.2)
    assert short.over
    assert short.coverage == coverage_bound(120, 2 + (120 - 48), 0.025)
    assert short.coverage < 46 / 48


def test_the_coverage_that_is_proved_is_the_true_one_or_less():
    """Over many audits that pass or are cut short the bound is above the truth in <= alpha."""
    rng, repeats = np.random.default_rng(0), 4000
    for true in (0.5, 0.9, 0.95, 0.97, 0.99):
        above = 0
        for fails in rng.random((repeats, PLAN.draws)) > true:
            made, _ = walked(PLAN.stages, fails)
            errors = tuple(np.where(fails[:made], 1.0, 0.0))
            above += Verdict(PLAN, errors, 0.2).coverage > true
        # four standard deviations of a binomial count
        assert above / repeats <= PLAN.risk + 4 * np.sqrt(PLAN.risk / repeats)


def simulated(goal, failing, told, rng):
    """The real campaign, with models that fail on fraction failing(round): those it certified.

    Exploration says `told` instead, so that as many bad models as possible are audited.
    Returns: (fraction on which the certified models fail, or None; pass probability of each audit)
    """
    campaign, passing, serial = Campaign(goal), [], iter(range(10**9))
    state = campaign.init()
    while not isinstance(action := campaign.ask(state), Stop):
        match action:
            case Seed(count):
                kind, data = "seeded", {"seed": [f"{next(serial)}" for _ in range(count)]}
            case Train():
                kind, data = "trained", {"model": state.round + 1}
            case Distil():
                kind, data = "distilled", {"model": state.round + 1}
            case Audit(planned):
                names = [f"{next(serial)}" for _ in range(planned.draws)]
                kind, data = "drawn", {"audit": names, "plan": vars(planned)}
                passing.append(planned.passes(failing(state.round)))
            case Label(keys):
                fails = rng.random(len(keys)) < failing(state.round)
                errors = np.where(fails, 2.0, 0.5) * goal.target
                kind = "labelled"
                data = {
                    "outcomes": [
                        {"key": k, "deviation": 1.0, "error": e, "audited": e, "failure": None}
                        for k, e in zip(keys, errors.tolist())
                    ]
                }
            case _:
                kind, data = "explored", {"failing": told}
        state = campaign.tell(state, Event(0, 0.0, kind, data))
    return (failing(state.round) if action.certified else None), passing


# (name, fraction on which the models of a round fail, what exploration says); coverage is 0.9
WORLDS = [
    ("just too bad", lambda _: 0.1001, 0.0),
    ("just too bad, failures allowed", lambda _: 0.1001, 0.04),
    ("one good model between bad ones", lambda n: 0.02 if n % 3 == 0 else 0.11, 0.0),
    ("slowly better", lambda n: 0.25 * 0.8**n, 0.02),
]


@pytest.mark.parametrize(("failing", "told"), [w[1:] for w in WORLDS], ids=[w[0] for w in WORLDS])
def test_false_certificates_are_no_more_frequent_than_the_confidence_allows(failing, told):
    """Over whole campaigns with repeated audits, alpha spent as 1/2, 1/4, ... of 1 - confidence."""
    goal = Goal(target=1.0, confidence=0.8, coverage=0.9, labels=400, seed_labels=4)
    assert MOST_ALLOWED_FAILURES == 3
    rng, repeats = np.random.default_rng(1), 500
    ends = [simulated(goal, failing, told, rng) for _ in range(repeats)]
    false = sum(end is not None and end > 1 - goal.coverage for end, _ in ends) / repeats
    risk = 1 - goal.confidence
    assert false <= risk + 3 * np.sqrt(risk * (1 - risk) / repeats)
    longest = max((passing for _, passing in ends), key=len)
    assert len(longest) >= 3  # audits were indeed repeated
    if failing(0) == failing(1):
        # the simulation has the power to see a wrong plan: it finds what the binomial law says;
        # campaigns that afford an audit less pass less often, by less than the last one's share
        expected = 1 - np.prod([1 - p for p in longest])
        assert expected > 0.1
        tolerance = 4 * np.sqrt(expected * (1 - expected) / repeats)
        assert expected - longest[-1] - tolerance < false < expected + tolerance


def test_a_certificate_says_what_is_proved_or_what_is_missing():
    failed, passed = Verdict(PLAN, (0.3, np.inf), 0.2), Verdict(PLAN, (0.1,) * 81, 0.2)
    good = certificate(
        [failed, passed], 0.2, "m", "curves have an error", 0.95, 0.95, "The audit passed."
    )
    assert good["certified"]
    assert good["missing"] is None
    for words in ("confidence 95%", "at least 95%", "curves have an error below 0.2 m"):
        assert words in good["claim"]
    bad = certificate(
        [failed], 0.2, "m", "curves have an error", 0.95, 0.95, "Of 50 labels 7 are left."
    )
    assert not bad["certified"]
    assert bad["claim"] is None
    assert "Of 50 labels 7 are left." in bad["missing"]
    assert "2 were not below the target" in bad["missing"]
    assert (
        "No audit was made"
        in certificate([], 0.2, "m", "curves have an error", 0.95, 0.95, "")["missing"]
    )


def test_quantiles_are_errors_that_were_drawn():
    errors = np.linspace(0.01, 0.1, 10).tolist()
    told = describe(Verdict(PLAN, (*errors, np.inf), 0.2))
    assert told["error_quantiles"] == {
        "50%": errors[5],
        "90%": errors[9],
        "95%": np.inf,
        "max": np.inf,
    }
    assert (told["draws"], told["stages"], told["failures"]) == (11, [81, 120], 1)
