"""The answers of a run. Knows what is to be picked and says why; knows nothing of test rows or files."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

from evaluators.base import Accuracy
from search.certificate import (
    Candidate,
    Certificate,
    Test,
    all_of,
    certify,
    non_inferiority_of_losses,
    rows_needed,
    rows_needed_for_share,
    sequence,
    share_at_most,
)
from search.figures import AccuracyFigure, Estimate, MemberFigures, Pick
from search.infeasible import cure
from search.ledger import Outcome
from search.select import (
    Preference,
    best,
    cost,
    default_preference,
    drop,
    eligible,
    fastest,
    knee,
    latency_ms,
    lost,
    meets,
    safest,
    size_bytes,
    smallest,
    within,
)
from search.wording import said
from spaces.objectives import ACCURACY, SHARES, Bound

# Standard errors on either side of an estimate that a 95 % interval spans.
_HALF_WIDTH = NormalDist().inv_cdf(0.975)
_SUPERLATIVES: Mapping[Preference, str] = {
    "latency": "fastest",
    "size": "smallest",
    "knee": "best balanced",
}


def to_certify(
    members: Sequence[MemberFigures], bounds: Sequence[Bound], prefer: Preference = "latency"
) -> list[Candidate]:
    """Verified members that meet every limit on costs, as candidates of a certificate of those on answers.

    Args:
        members: with figures on search.
        bounds: limits of the run.
        prefer: what is to be made small: size if `size`, latency otherwise.
    """
    answers = [bound for bound in bounds if bound.of_answers]
    others = [bound for bound in bounds if not bound.of_answers]
    allowed = [m for m in eligible(members) if m.verified and all(excess <= 0 for excess in meets(m, others).values())]
    figure = size_bytes if prefer == "size" else latency_ms
    return [_candidate(member, answers, float(figure(member))) for member in allowed]


def _candidate(member: MemberFigures, answers: Sequence[Bound], cost: float) -> Candidate:
    """A member as a candidate against a margin of 0: what it exceeds the limit by that is most in danger.

    Standard errors are read off 95 % intervals.
    """
    found = [_estimate(member.accuracy["search"], bound.name) for bound in answers]
    against = [
        Candidate(member.key, known.value - bound.at_most, cost, (known.high - known.low) / (2 * _HALF_WIDTH))
        for known, bound in zip(found, answers, strict=True)
        if known is not None
    ]
    return max(against, key=lambda each: each.risk(0.0), default=Candidate(member.key, 0.0, cost))


def _estimate(figure: AccuracyFigure, name: str) -> Estimate | None:
    """What a limit on answers counts; None where nobody did."""
    if name == "accuracy_drop":
        return figure.drop
    return figure.guards[name].share if name in figure.guards else None


def picks(
    members: Sequence[MemberFigures],
    bounds: Sequence[Bound],
    certificate: Certificate | None = None,
    confirm: Mapping[str, Accuracy] | None = None,
    confidence: float = 0.95,
    metric: str = ACCURACY.name,
) -> tuple[Pick, ...]:
    """What to take from a front, and why.

    Args:
        members: the front, with figures on search and confirm.
        bounds: limits of the run.
        certificate: of the limits on answers; None where none was asked or nothing is verified yet.
        confirm: by key, single members' answers to the confirm rows.
        confidence: of the certificate.
        metric: what `accuracy` is the figure of.

    Returns:
        `limits`, `fastest_within` and `smallest_within` where limits were given, `certified` where a certificate was
        tried, `cascade` where cascades were built, and always `knee`, `fastest`, `smallest` and `safest`; keys are None
        where nothing qualifies.
    """
    pool = eligible(members)
    writer = _Writer(certificate, tuple(bounds), confirm or {}, confidence, metric)
    found: list[Pick] = []
    if bounds:
        found.append(writer.within("limits", pool, default_preference(bounds), remedied=True))
    if certificate is not None:
        found.append(writer.certified(pool))
    if bounds:
        found.append(writer.within("fastest_within", pool, "latency"))
        found.append(writer.within("smallest_within", pool, "size"))
    cascades = eligible(members, "cascade")
    if cascades:
        found.append(writer.within("cascade", cascades, default_preference(bounds), remedied=True))
    extremes: Mapping[str, tuple[Callable[[Sequence[MemberFigures]], MemberFigures], str]] = {
        "knee": (knee, f"best balanced of all: nearest to the best {metric}, latency and size"),
        "fastest": (fastest, f"fastest of all, whatever its {metric}"),
        "smallest": (smallest, f"smallest of all, whatever its {metric}"),
        "safest": (safest, f"lowest upper end of the {said(metric).lost}'s interval"),
    }
    found += [writer.pick(name, rule(pool) if pool else None, reason) for name, (rule, reason) in extremes.items()]
    return tuple(found)


def certified_picks(
    members: Sequence[MemberFigures],
    bounds: Sequence[Bound],
    confirm: Mapping[str, Accuracy],
    confidence: float,
    metric: str = ACCURACY.name,
) -> tuple[Certificate | None, tuple[Pick, ...]]:
    """The certificate, from few members frozen by search figures and tested on confirm, and the picks.

    Args:
        members: the front, with figures on search and confirm.
        bounds: limits of the run.
        confirm: by key, single members' answers to the confirm rows.
        confidence: of the certificate.
        metric: what `accuracy` is the figure of.
    """
    answers = [bound for bound in bounds if bound.of_answers]
    certificate = None
    if answers:

        def test(key: str) -> Test:
            return all_of([each for bound in answers for each in tests(confirm[key], bound, confidence)])

        certificate = certify(sequence(to_certify(members, bounds), 0.0), test)
    return certificate, picks(members, bounds, certificate, confirm, confidence, metric)


def tests(accuracy: Accuracy, bound: Bound, confidence: float) -> list[Test]:
    """Of one limit on answers, one test or one for each group of rows; all must pass."""
    if bound.name == "accuracy_drop":
        return [non_inferiority_of_losses(accuracy.losses, bound.at_most, confidence)]
    groups = accuracy.guards[bound.name].losses.values()
    if bound.name in SHARES:
        found = [share_at_most(int(sum(rows)), len(rows), bound.at_most, confidence) for rows in groups]
    else:
        found = [non_inferiority_of_losses(rows, bound.at_most, confidence) for rows in groups]
    return [replace(each, limit=bound.name) for each in found]


def _rows_for(accuracy: Accuracy, bound: Bound, confidence: float) -> int | None:
    """Confirm rows that would certify one limit on answers, taking a gain for luck; None if none would."""
    if bound.name == "accuracy_drop":
        return rows_needed(max(accuracy.drop, 0.0), accuracy.discordance, bound.at_most, confidence)
    guard = accuracy.guards[bound.name]
    if bound.name in SHARES:
        return rows_needed_for_share(guard.value, bound.at_most, confidence)
    needed = []
    for rows in guard.losses.values():
        lost, discordance = max(sum(rows) / len(rows), 0.0), sum(each * each for each in rows) / len(rows)
        of_group = rows_needed(lost, discordance, bound.at_most, confidence)
        needed.append(None if of_group is None else math.ceil(of_group * accuracy.n / len(rows)))
    return most(needed)


def most(needed: Iterable[int | None]) -> int | None:
    """The largest of several numbers of rows; None where no number is enough for one."""
    known = list(needed)
    return None if None in known else max(filter(None, known), default=None)


def recipe_picks(
    settled: Mapping[str, Outcome], members: Sequence[MemberFigures], confirming: Collection[str]
) -> tuple[Pick, ...]:
    """One pick per recipe, named like it: what it settled on.

    Args:
        settled: by recipe its outcome.
        members: verified ones.
        confirming: recipes whose outcome counts only if it is no less accurate on the confirm rows.
    """
    by_key = {member.key: member for member in members}
    found = []
    for name, outcome in settled.items():
        member = by_key.get(outcome.keys[0])
        reason = (
            f"what {name} settled on after {outcome.designs} designs: loss {outcome.before:.4f} to {outcome.after:.4f} "
            "on the search rows"
        )
        lost = None if member is None or member.accuracy["confirm"].drop is None else drop(member)
        if lost is not None:
            reason += f", accuracy {round(-lost * 100, 2) + 0.0:+.2f} pt on the confirm rows"
        if name in confirming and (lost is None or lost > 0):
            found.append(Pick(name, None, False, f"{reason}: they do not agree, so the original stays"))
        else:
            found.append(Pick(name, None if member is None else member.key, False, reason))
    return tuple(found)


class _Writer:
    """Turns members into picks that say how sure they are."""

    def __init__(
        self,
        certificate: Certificate | None,
        bounds: tuple[Bound, ...],
        confirm: Mapping[str, Accuracy],
        confidence: float,
        metric: str,
    ) -> None:
        self._tests = certificate.tests if certificate is not None else {}
        self._passed = frozenset(certificate.passed if certificate is not None else ())
        self._bounds = bounds
        self._answers = [bound for bound in bounds if bound.of_answers]
        self._confirm = confirm
        self._confidence = confidence
        self._superlatives = {**_SUPERLATIVES, "accuracy": said(metric).best}

    def within(
        self, name: str, pool: Sequence[MemberFigures], preference: Preference, *, remedied: bool = False
    ) -> Pick:
        """The best member within the limits; where there is none, `remedied` says what would have to give."""
        limits = " and ".join(f"{bound.name.replace('_', ' ')} <= {bound.asked}" for bound in self._bounds)
        qualified = within(pool, self._bounds)
        if not qualified:
            remedy = f". {cure(pool, self._bounds, cost)}" if remedied and pool else ""
            return Pick(name, None, False, f"no member meets {limits}{remedy}")
        member = best(qualified, preference)
        return self.pick(name, member, f"{self._superlatives[preference]} member within {limits}{self._surety(member)}")

    def certified(self, pool: Sequence[MemberFigures]) -> Pick:
        """The last member that passed."""
        by_key = {member.key: member for member in pool}
        passed = [key for key in self._tests if key in self._passed]
        limits = " and ".join(f"{bound.asked} of {bound.name.replace('_', ' ')}" for bound in self._answers)
        if passed:
            return self.pick("certified", by_key.get(passed[-1]), f"most aggressive member certified within {limits}")
        if not self._tests:
            return Pick("certified", None, False, f"no member could be tested against {limits}")
        key, test = next(iter(self._tests.items()))
        what = "drop" if test.limit == "accuracy_drop" else test.limit.replace("_", " ")
        asked = next((bound.asked for bound in self._answers if bound.name == test.limit), "")
        reason = (
            f"not even the safest candidate {key} could be certified: its {what} may be {test.upper * 100:.2f} pt, "
            f"asked {asked}"
        )
        return Pick("certified", None, False, reason, self._rows_needed(by_key.get(key)))

    def pick(self, name: str, member: MemberFigures | None, reason: str) -> Pick:
        """`member` under `name`, with what its certificate lacks."""
        if member is None:
            return Pick(name, None, False, "no sound member to pick from")
        certified = member.key in self._passed
        unverified = "" if member.verified else " (not verified yet)"
        return Pick(name, member.key, certified, reason + unverified, None if certified else self._rows_needed(member))

    def _surety(self, member: MemberFigures) -> str:
        """How much of the claim rests on point estimates."""
        if not self._answers:
            return ""
        if member.key in self._passed:
            return f", certified at {self._confidence:.0%} confidence"
        on_search = "search" in member.accuracy
        doubtful = on_search and any(bound.excess(lost(member, bound, "search")) > 0 for bound in self._answers)
        return (
            ", by its point estimate on confirm only" if doubtful else ", by its point estimates on search and confirm"
        )

    def _rows_needed(self, member: MemberFigures | None) -> int | None:
        """Confirm rows for the missing certificate."""
        if not self._answers or member is None or member.key not in self._confirm:
            return None
        return most(_rows_for(self._confirm[member.key], bound, self._confidence) for bound in self._answers)
