"""The campaign: a pure state machine. `ask` says what to do next, `tell` takes in what happened."""

from dataclasses import dataclass, field, replace

import numpy as np

from kepton.elt.certificate import PROBABLY, Plan, Verdict, draws_needed, plan, risk_of
from kepton.elt.journal import Event
from kepton.elt.select import Calibration
from kepton.errors import InputError

AUDIT_BLOCK = 24
"""Draws of an audit that are labelled together, or two a worker, before it may be given up."""
LATE = 0.25
"""Share of the workers, and of a round's samples, that a training does not wait for: the slowest
quarter takes about as long as the three before it, and a round without it learns nearly as much."""
MOST_ALLOWED_FAILURES = 3
"""An audit that allows more failures costs more labels than it saves."""
IMPROVES = 0.7
"""A round lowers the fraction that fails by this factor, as a rule"""


@dataclass(frozen=True)
class Goal:
    """What the user asks for.

    Args:
        target: error that a configuration must stay below
        confidence: of the certificate, over the campaign as a whole
        coverage: fraction of the visited configurations that must be below the target
        labels: most labels that may be paid for, audits included
        hours: most wall time, none where not limited
        failures: largest share of a batch whose labels fail before the campaign pauses
        seed_labels: samples labelled before the first training
        batch_labels: samples a round, at most; none: see `Campaign.batch`
        seed: of all random numbers
    """

    target: float
    confidence: float = 0.95
    coverage: float = 0.95
    labels: int = 500
    hours: float | None = None
    failures: float = 0.5
    seed_labels: int = 24
    batch_labels: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Raise InputError where the budget cannot pay for seeds, one round and one audit."""
        needed = self.seed_labels + draws_needed(self.coverage, risk_of(1, self.confidence))
        if self.labels < needed:
            raise InputError(
                f"A budget of {self.labels} labels is too small for the certificate: the first "
                f"samples take {self.seed_labels}, and a proof that {self.coverage:.0%} of the "
                f"configurations are below the target, at {self.confidence:.0%} confidence, takes "
                f"at least {needed - self.seed_labels} more. Give [budget] labels = {needed} at "
                "the very least (several times that is realistic), or ask for a lower [target] "
                "coverage or confidence."
            )


@dataclass(frozen=True)
class Seed:
    """Make so many first samples, from no data."""

    count: int


@dataclass(frozen=True)
class Label:
    """Have these samples labelled, and measure the present models on them.

    Args:
        keys: of the samples; empty for a walk that broke
        late: once no more than so many of them are missing,
        patience: they are waited for so many seconds, and then join a later round
    """

    keys: tuple[str, ...]
    late: int = 0
    patience: float = 0.0


@dataclass(frozen=True)
class Train:
    """Train on all data."""


@dataclass(frozen=True)
class Explore:
    """Explore, and choose at most so many samples."""

    count: int


@dataclass(frozen=True)
class Distil:
    """Make the models that are handed out of those that were trained."""


@dataclass(frozen=True)
class Audit:
    """Draw the samples of an audit."""

    plan: Plan


@dataclass(frozen=True)
class Stop:
    """Nothing is left to do.

    Args:
        certified: the certificate is proved; else a budget ended first
        reason: in words
    """

    certified: bool
    reason: str


Action = Seed | Label | Train | Explore | Distil | Audit | Stop


@dataclass(frozen=True)
class Measured:
    """One sample that was sent to the principle.

    Args:
        key: of the sample
        origin: seed, explored, typical or audit
        round: in which its label was taken in
        deviation, error: of the models of that round, which had not seen it; nan for seeds
        failure: why there is no label
        audited: error of the models that are handed out; nan outside of an audit
    """

    key: str
    origin: str
    round: int
    deviation: float
    error: float
    failure: str | None
    audited: float = float("nan")

    @property
    def final(self) -> float:
        """The error that counts: in an audit that of the models that are handed out."""
        return self.audited if self.origin == "audit" else self.error


@dataclass(frozen=True)
class State:
    """All that the campaign knows, folded from its events.

    Args:
        stage: seed, train, explore or audit: what comes next, once no sample is waiting
        round: number of trainings so far
        model: id of the present models in the journal
        runner: id of the models that are handed out in their place, once they are made
        former: id of those that were handed out last, before the present models
        measured: every sample that was labelled or failed, in order
        waiting: (key, origin) of samples still to be labelled; the key is empty for a broken walk
        late: (key, origin) of samples of earlier rounds whose labels are still being computed
        audit: the plan and the errors so far of the audit under way
        verdicts: of the audits that are over
        failing: predicted fraction of visited configurations above the target
        seconds: wall time spent, by stage
    """

    stage: str = "seed"
    round: int = 0
    model: int | None = None
    runner: int | None = None
    former: int | None = None
    measured: tuple[Measured, ...] = ()
    waiting: tuple[tuple[str, str], ...] = ()
    late: tuple[tuple[str, str], ...] = ()
    audit: Verdict | None = None
    verdicts: tuple[Verdict, ...] = ()
    failing: float = 1.0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def labels(self) -> int:
        """Samples sent to the principle, failures included."""
        return len(self.measured) + len(self.late)

    @property
    def data(self) -> tuple[str, ...]:
        """Keys of the labelled samples, in order: what training may see."""
        return tuple(m.key for m in self.measured if m.failure is None)

    @property
    def certified(self) -> bool:
        """The last audit passed."""
        return bool(self.verdicts) and self.verdicts[-1].passed

    @property
    def calibration(self) -> Calibration:
        """Deviation against error on the last samples that models had not seen."""
        pairs = [(m.deviation, m.error) for m in self.measured if m.origin != "seed"]
        pairs = [pair for pair in pairs if np.isfinite(pair).all()][-100:]
        return Calibration.fit(*np.array(pairs, float).reshape(-1, 2).T)


@dataclass(frozen=True)
class Campaign:
    """The rules of the loop, as two pure functions on State.

    seed -> label -> train -> explore -> label -> train -> ... -> distil -> audit -> certified,
    or train

    An audit begins as soon as one that is affordable would be passed by models failing on the
    predicted fraction in four of five tries, when one more round would leave too few labels for one
    that is passed more probably, or when none are left for training. Its samples become training
    data when it fails.

    A label that is late joins a later round. The first training and audits wait for all of theirs,
    and no label is late when an audit begins or the campaign ends.

    Args:
        goal: what is asked for
        workers: labels in flight at a time
    """

    goal: Goal
    workers: int = 1

    @property
    def batch(self) -> int:
        """Samples a round: a tenth of what training may cost, within 8 and 32.

        More workers have one each, as long as that leaves four rounds.
        """
        goal = self.goal
        spare = goal.labels - draws_needed(goal.coverage, risk_of(1, goal.confidence))
        tenth = int(np.clip(spare // 10, 8, 32))
        return goal.batch_labels or max(tenth, min(self.workers, spare // 4))

    def init(self) -> State:
        """Before the first sample."""
        return State()

    def ask(self, state: State) -> Action:
        """What to do next."""
        if state.certified:
            return Stop(True, "The audit passed.")
        if state.audit:
            block = min(max(AUDIT_BLOCK, 2 * self.workers), state.audit.due)
            return Label(_keys(state.waiting[:block]))
        if state.waiting:
            keys = _keys(state.late + state.waiting)
            if state.round == 0:
                return Label(keys)
            return Label(keys, int(LATE * min(self.workers, len(keys))), _patience(state))
        if state.stage == "seed":
            return Seed(self.goal.seed_labels)
        if state.stage == "train":
            return Train()
        if exhausted := self._exhausted(state):
            return Label(_keys(state.late)) if state.late else Stop(False, exhausted)
        if state.stage == "explore":
            return Explore(min(self.batch, max(0, self._spare(state))))
        if state.runner is None:
            return Distil()
        if state.late:
            return Label(_keys(state.late))
        planned = self._plan(state, state.failing)
        assert planned is not None
        return Audit(planned)

    def tell(self, state: State, event: Event) -> State:
        """The state after an event."""
        data = event.data
        seconds = dict(state.seconds)
        seconds[event.kind] = seconds.get(event.kind, 0.0) + data.get("seconds", 0.0)
        state = replace(state, seconds=seconds)
        match event.kind:
            case "seeded":
                return replace(state, stage="train", waiting=_waiting(data, "seed"))
            case "trained":
                former = state.runner or state.former
                state = replace(state, model=data["model"], runner=None, former=former)
                return replace(state, stage="explore", round=state.round + 1)
            case "distilled":
                return replace(state, runner=data["model"])
            case "explored":
                waiting = _waiting(data, "explored") + _waiting(data, "typical")
                state = replace(state, failing=data["failing"])
                return replace(state, stage="train" if waiting else "audit", waiting=waiting)
            case "drawn":
                planned = Plan(**data["plan"] | {"stages": tuple(data["plan"]["stages"])})
                verdict = Verdict(planned, (), self.goal.target)
                return replace(state, waiting=_waiting(data, "audit"), audit=verdict)
            case "labelled":
                return self._labelled(state, data["outcomes"])
        return state

    def worth_an_audit(self, state: State, failing: float) -> bool:
        """Whether models failing on this fraction would probably pass, or would not sooner later.

        One more round makes better models, but leaves fewer labels for their audit.
        """
        planned = self._plan(state, failing)
        if planned is None or self._spare(state) <= 0:
            return True
        chance, better = planned.passes(failing), IMPROVES * failing
        later = self._plan(state, better, self.batch)
        return chance >= PROBABLY or later is None or chance >= later.passes(better)

    def _labelled(self, state: State, outcomes: list[dict]) -> State:
        origin = dict(state.late + state.waiting)
        measured = tuple(
            Measured(
                o["key"],
                origin[o["key"]],
                state.round,
                o["deviation"],
                o["error"],
                o["failure"],
                o.get("audited", np.nan),
            )
            for o in outcomes
            if o["key"]
        )
        state = replace(state, measured=state.measured + measured)
        if state.audit is None:
            came = {o["key"] for o in outcomes}
            late = tuple(one for one in state.late + state.waiting if one[0] not in came)
            return replace(state, waiting=(), late=late)
        errors = state.audit.errors + tuple(o["audited"] for o in outcomes)
        verdict = replace(state.audit, errors=errors)
        if not verdict.over:
            return replace(state, audit=verdict, waiting=state.waiting[len(outcomes) :])
        return replace(
            state, stage="train", waiting=(), audit=None, verdicts=(*state.verdicts, verdict)
        )

    def _plan(self, state: State, failing: float, more: int = 0) -> Plan | None:
        """The audit of models failing on this fraction, so many labels later; None: not affordable.

        While training may still cost labels, an audit that allows failures costs on average no more
        than all labels before it: in a young campaign one more round is the cheaper way to pass.
        """
        labels = state.labels + more
        return plan(
            len(state.verdicts) + 1,
            self.goal.confidence,
            self.goal.coverage,
            failing,
            self.goal.labels - labels,
            MOST_ALLOWED_FAILURES,
            float(labels) if self._spare(state) > more else np.inf,
        )

    def _smallest_audit(self, state: State) -> int:
        risk = risk_of(len(state.verdicts) + 1, self.goal.confidence)
        return draws_needed(self.goal.coverage, risk)

    def _spare(self, state: State) -> int:
        """Labels that training may still cost, the smallest audit being kept in reserve."""
        return self.goal.labels - state.labels - self._smallest_audit(state)

    def _exhausted(self, state: State) -> str | None:
        hours = sum(state.seconds.values()) / 3600.0
        if self.goal.hours is not None and hours >= self.goal.hours:
            return f"The time budget of {self.goal.hours:g} hours is spent."
        if self._plan(state, state.failing) is None:
            return (
                f"Of {self.goal.labels} labels {self.goal.labels - state.labels} are left, too few "
                "for another audit."
            )
        return None


def _waiting(data: dict, origin: str) -> tuple[tuple[str, str], ...]:
    return tuple((key, origin) for key in data.get(origin, ()))


def _keys(samples: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    return tuple(key for key, _ in samples)


def _patience(state: State) -> float:
    """Seconds that a training and an exploration take: to wait as long again at most doubles it.

    So where labels are quicker than that, none is late, and a campaign is the same every time.
    """
    spent = state.seconds.get("trained", 0.0) + state.seconds.get("explored", 0.0)
    return spent / state.round
