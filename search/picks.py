"""The answers of a run. Knows what is to be picked and says why; knows nothing of test rows or files."""

from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import NormalDist

from evaluators.base import Accuracy
from search.certificate import (
    Candidate,
    Certificate,
    Test,
    certify,
    non_inferiority_of_losses,
    rows_needed,
    sequence,
)
from search.figures import MemberFigures, Pick
from search.ledger import Outcome
from search.select import (
    Preference,
    best,
    default_preference,
    drop,
    eligible,
    fastest,
    knee,
    latency_ms,
    meets,
    safest,
    size_bytes,
    smallest,
    within,
)
from spaces.objectives import Bound

# Standard errors on either side of an estimate that a 95 % interval spans.
_HALF_WIDTH = NormalDist().inv_cdf(0.975)
_SUPERLATIVES: Mapping[Preference, str] = {
    "accuracy": "most accurate",
    "latency": "fastest",
    "size": "smallest",
    "knee": "best balanced",
}


def to_certify(
    members: Sequence[MemberFigures], bounds: Sequence[Bound], prefer: Preference = "latency"
) -> list[Candidate]:
    """Verified members that meet every limit but that of accuracy, as candidates of a certificate.

    Args:
        members: with a drop on search.
        bounds: limits of the run.
        prefer: what is to be made small: size if `size`, latency otherwise.
    """
    others = [bound for bound in bounds if bound.name != "accuracy_drop"]
    allowed = [m for m in eligible(members) if m.verified and all(excess <= 0 for excess in meets(m, others).values())]
    cost = size_bytes if prefer == "size" else latency_ms
    return [_candidate(member, float(cost(member))) for member in allowed]


def _candidate(member: MemberFigures, cost: float) -> Candidate:
    """A member as a candidate, the standard error of its drop read off the 95 % interval."""
    measured = member.accuracy["search"].drop
    if measured is None:
        return Candidate(member.key, 0.0, cost)
    return Candidate(member.key, measured.value, cost, (measured.high - measured.low) / (2 * _HALF_WIDTH))


def picks(
    members: Sequence[MemberFigures],
    bounds: Sequence[Bound],
    certificate: Certificate | None = None,
    discordance: Mapping[str, float] | None = None,
    confidence: float = 0.95,
) -> tuple[Pick, ...]:
    """What to take from a front, and why.

    Args:
        members: the front, with figures on search and confirm.
        bounds: limits of the run.
        certificate: of the accuracy limit; None where none was asked or nothing is verified yet.
        discordance: by key, the mean squared loss of a confirm row against `fair`; for accuracy the share of rows on
            which exactly one of the two is right.
        confidence: of the certificate.

    Returns:
        `limits` and `smallest_within` where limits were given, `certified` where a certificate was tried, `cascade`
        where cascades were built, and always
        `knee`, `fastest`, `smallest` and `safest`; keys are None where nothing qualifies.
    """
    pool = eligible(members)
    writer = _Writer(certificate, tuple(bounds), discordance or {}, confidence)
    found: list[Pick] = []
    if bounds:
        found.append(writer.within("limits", pool, default_preference(bounds)))
    if certificate is not None:
        found.append(writer.certified(pool))
    if bounds:
        found.append(writer.within("smallest_within", pool, "size"))
    cascades = eligible(members, "cascade")
    if cascades:
        found.append(writer.within("cascade", cascades, default_preference(bounds)))
    extremes: Mapping[str, tuple[Callable[[Sequence[MemberFigures]], MemberFigures], str]] = {
        "knee": (knee, "best balanced of all: nearest to the best accuracy, latency and size"),
        "fastest": (fastest, "fastest of all, whatever its accuracy"),
        "smallest": (smallest, "smallest of all, whatever its accuracy"),
        "safest": (safest, "lowest upper end of the drop's interval"),
    }
    found += [writer.pick(name, rule(pool) if pool else None, reason) for name, (rule, reason) in extremes.items()]
    return tuple(found)


def certified_picks(
    members: Sequence[MemberFigures],
    bounds: Sequence[Bound],
    confirm: Mapping[str, Accuracy],
    confidence: float,
) -> tuple[Certificate | None, tuple[Pick, ...]]:
    """The certificate, from few members frozen by search figures and tested on confirm, and the picks.

    Args:
        members: the front, with figures on search and confirm.
        bounds: limits of the run.
        confirm: by key, single members' answers to the confirm rows.
        confidence: of the certificate.
    """
    margin = next((bound.at_most for bound in bounds if bound.name == "accuracy_drop"), None)
    certificate = None
    if margin is not None:
        limit = margin

        def test(key: str) -> Test:
            return non_inferiority_of_losses(confirm[key].losses, limit, confidence)

        certificate = certify(sequence(to_certify(members, bounds), limit), test)
    discordance = {key: accuracy.discordance for key, accuracy in confirm.items()}
    return certificate, picks(members, bounds, certificate, discordance, confidence)


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
        discordance: Mapping[str, float],
        confidence: float,
    ) -> None:
        self._tests = certificate.tests if certificate is not None else {}
        self._passed = frozenset(certificate.passed if certificate is not None else ())
        self._bounds = bounds
        self._margin = next((bound for bound in bounds if bound.name == "accuracy_drop"), None)
        self._discordance = discordance
        self._confidence = confidence

    def within(self, name: str, pool: Sequence[MemberFigures], preference: Preference) -> Pick:
        """The best member within the limits."""
        limits = " and ".join(f"{bound.name.replace('_', ' ')} <= {bound.asked}" for bound in self._bounds)
        qualified = within(pool, self._bounds)
        if not qualified:
            return Pick(name, None, False, f"no member meets {limits}")
        member = best(qualified, preference)
        return self.pick(name, member, f"{_SUPERLATIVES[preference]} member within {limits}{self._surety(member)}")

    def certified(self, pool: Sequence[MemberFigures]) -> Pick:
        """The last member that passed."""
        by_key = {member.key: member for member in pool}
        passed = [key for key in self._tests if key in self._passed]
        limit = self._margin.asked if self._margin is not None else "the limit"
        if passed:
            return self.pick(
                "certified", by_key.get(passed[-1]), f"most aggressive member certified within {limit} of accuracy drop"
            )
        if not self._tests:
            return Pick("certified", None, False, f"no member could be tested against {limit} of accuracy drop")
        key, test = next(iter(self._tests.items()))
        most = f"{test.upper * 100:.2f} pt"
        reason = f"not even the safest candidate {key} could be certified: its drop may be {most}, asked {limit}"
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
        if self._margin is None:
            return ""
        if member.key in self._passed:
            return f", certified at {self._confidence:.0%} confidence"
        on_search = member.accuracy.get("search")
        doubtful = on_search is not None and self._margin.excess(drop(member, "search")) > 0
        return (
            ", by its point estimate on confirm only" if doubtful else ", by its point estimates on search and confirm"
        )

    def _rows_needed(self, member: MemberFigures | None) -> int | None:
        """Confirm rows for the missing certificate, taking a gain of accuracy for luck."""
        if self._margin is None or member is None or member.key not in self._discordance:
            return None
        discordance = self._discordance[member.key]
        return rows_needed(max(drop(member), 0.0), discordance, self._margin.at_most, self._confidence)
