"""Whether a gain of accuracy counts, and what to take then. Knows figures and tests; knows nothing of models or files.

The search rows choose one member; its gain counts where cross-fitting (gains.py) and the confirm rows agree on it.
"""

from collections.abc import Mapping, Sequence

from evaluators.base import Accuracy
from search.certificate import non_inferiority_of_losses, rows_needed
from search.figures import Estimate, MemberFigures, Pick
from search.gains import Contest, Gain
from search.select import eligible, meets
from spaces.objectives import Bound

NAME = "gain"


def with_gain(
    found: Contest | None,
    answers: Sequence[Pick],
    members: Sequence[MemberFigures],
    bounds: Sequence[Bound],
    confirm: Mapping[str, Accuracy],
    confidence: float,
) -> tuple[Gain | None, tuple[Pick, ...]]:
    """What is gained, and the picks with the one for it behind that for the limits.

    Args:
        found: what search rows say; None where the search was not for accuracy: then nothing is added.
        answers: the other picks.
        members: the front as verified.
        bounds: limits of the run.
        confirm: by key, single members' answers to the confirm rows.
        confidence: one-sided.
    """
    if found is None:
        return None, tuple(answers)
    gain = judged(found, members, bounds, confirm, confidence)
    place = sum(each.name == "limits" for each in answers[:1])
    return gain, (*answers[:place], gain_pick(gain, members, bounds, confidence), *answers[place:])


def judged(
    found: Contest,
    members: Sequence[MemberFigures],
    bounds: Sequence[Bound],
    confirm: Mapping[str, Accuracy],
    confidence: float,
) -> Gain:
    """Whether a gain counts: the search rows choose, cross-fitting and the confirm rows judge.

    Only one member is held against the confirm rows, so nothing is chosen there. Arguments as of `with_gain`.
    """
    allowed = _allowed(members, bounds) & confirm.keys()
    chosen = next((leader for leader in found.leaders if leader.key in allowed), None)
    if chosen is None or found.cross_fitted is None:
        return Gain(found)
    there = confirm[chosen.key]
    gained, fitted = -there.drop, found.cross_fitted.value
    test = non_inferiority_of_losses(there.losses, 0.0, confidence)
    counts = fitted > 0 and gained > 0
    certified = counts and test.passes
    needed = rows_needed(-min(fitted, gained), there.discordance, 0.0, confidence)
    return Gain(
        found,
        chosen,
        Estimate(gained, -there.drop_high, -there.drop_low),
        -test.upper,
        counts,
        certified,
        needed if counts and not certified else None,
    )


def _allowed(members: Sequence[MemberFigures], bounds: Sequence[Bound]) -> set[str]:
    """Keys of verified members to pick from, within all limits but that of accuracy, which who gains keeps anyway."""
    others = [bound for bound in bounds if bound.name != "accuracy_drop"]
    return {
        member.key
        for member in eligible(members)
        if member.verified and all(excess <= 0 for excess in meets(member, others).values())
    }


def gain_pick(gain: Gain, members: Sequence[MemberFigures], bounds: Sequence[Bound], confidence: float) -> Pick:
    """The member whose gain counts; else the original, where it is verified and within the limits."""
    if gain.counts and gain.chosen is not None:
        sure = "above" if gain.certified else "not above"
        reason = f"the gain counts: {_figures(gain)}, there {sure} 0 at {confidence:.0%} confidence{_warning(gain)}"
        return Pick(NAME, gain.chosen.key, gain.certified, reason, gain.rows_needed)
    original = gain.contest.original
    key = original if original in _allowed(members, bounds) else None
    beyond = key is None and any(bound.name != "accuracy_drop" for bound in bounds)
    advice = "the original is not within the limits" if beyond else "keep the original"
    return Pick(NAME, key, False, f"no gain counts: {_figures(gain)}; {advice}{_warning(gain)}")


def _figures(gain: Gain) -> str:
    found, fitted = gain.contest, gain.contest.cross_fitted
    if not found.designs:
        return "no design is within the limits by the search's figures"
    if fitted is None:
        return f"{found.rows} search rows are too few to judge by"
    choosing = f"{_points(fitted.value)} cross-fitted over {found.designs} designs"
    if not found.leaders:
        return f"none of {found.designs} designs is more accurate than the original on the search rows"
    if gain.chosen is None or gain.confirm is None:
        best = f"{_points(found.leaders[0].search)} on the search rows, {choosing}"
        return f"{best}, and none of the best {len(found.leaders)} could be verified within the limits"
    return f"{_points(gain.chosen.search)} on the search rows, {choosing}, {_points(gain.confirm.value)} on confirm"


def _warning(gain: Gain) -> str:
    left_out = gain.contest.left_out
    return f" ({left_out} designs whose answers were not kept are left out)" if left_out else ""


def _points(share: float) -> str:
    return f"{share * 100:+z.2f} pt"
