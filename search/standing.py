"""Which members of a front can be told apart, given how surely each was measured. Knows figures; measures nothing.

A member is beaten where another is surely better in something and no worse in anything. Two are tied where nothing
tells them apart.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from search.figures import Estimate, MemberFigures
from search.select import Kind, deciding, eligible, latency_ms, size_bytes

# Gaps that count as none: of time because machines are shared (architecture.md, section 5), of bytes because nobody
# chooses a model for them.
SAME_TIME, SAME_SIZE = 0.05, 0.01


def with_standings(members: Sequence[MemberFigures]) -> list[MemberFigures]:
    """The members with who is tied with them and who beats them; only verified, sound ones of a kind are compared."""
    compared = [*_comparable(members, "single"), *_comparable(members, "cascade")]
    keys = {member.key for member in compared}
    return [_standing(member, compared) if member.key in keys else member for member in members]


def unsettled(members: Sequence[MemberFigures]) -> list[str]:
    """Keys of neighbours in speed that nobody beats, and that more rounds of timing might separate."""
    left = sorted((each for each in _comparable(members, "single") if not each.beaten_by), key=latency_ms)
    pairs = [pair for pair in pairwise(left) if _apart(pair) and not _faster(*pair)]
    return sorted({member.key for pair in pairs for member in pair})


def _comparable(members: Sequence[MemberFigures], kind: Kind) -> list[MemberFigures]:
    return [member for member in eligible(members, kind) if member.verified]


def _standing(member: MemberFigures, others: Sequence[MemberFigures]) -> MemberFigures:
    rivals = [other for other in others if other.key != member.key and other.kind == member.kind]
    return replace(
        member,
        ties=tuple(other.key for other in rivals if not _better(member, other) and not _better(other, member)),
        beaten_by=tuple(other.key for other in rivals if _better(other, member) and _no_worse(other, member)),
    )


def _better(left: MemberFigures, right: MemberFigures) -> bool:
    """Whether `left` is surely better in something."""
    return _more_accurate(left, right) or _faster(left, right) or _smaller(left, right)


def _no_worse(left: MemberFigures, right: MemberFigures) -> bool:
    """Whether no figure of `left` is worse, be it by luck."""
    return (
        deciding(left).value >= deciding(right).value
        and latency_ms(left) <= latency_ms(right)
        and size_bytes(left) <= size_bytes(right)
    )


def _more_accurate(left: MemberFigures, right: MemberFigures) -> bool:
    """Whether it loses less than the noise of both drops, taken as independent, explains."""
    ours, theirs = deciding(left).drop or _certain(0.0), deciding(right).drop or _certain(0.0)
    return theirs.value - ours.value > math.hypot(ours.high - ours.value, theirs.value - theirs.low)


def _faster(left: MemberFigures, right: MemberFigures) -> bool:
    """Whether it is by more than counts as none, and by more than the noise of both ratios to the original."""
    if not _apart((left, right)) or latency_ms(left) > latency_ms(right):
        return False
    ours, theirs = _over_fair(left), _over_fair(right)
    return ours is None or theirs is None or ours.low > theirs.high


def _apart(pair: tuple[MemberFigures, MemberFigures]) -> bool:
    fast, slow = sorted(map(latency_ms, pair))
    return slow > (1 + SAME_TIME) * fast


def _over_fair(member: MemberFigures) -> Estimate | None:
    """Times as fast as the original; None where its latency is predicted, whose error nobody knows: it is believed."""
    return None if member.latency is None else member.latency.speedup.get("fair")


def _smaller(left: MemberFigures, right: MemberFigures) -> bool:
    return (1 + SAME_SIZE) * size_bytes(left) < size_bytes(right)


def _certain(value: float) -> Estimate:
    return Estimate(value, value, value)
