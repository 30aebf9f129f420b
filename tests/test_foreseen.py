"""The front that is foreseen: what it is made of, how far it goes, and what the search begins with."""

import random
from dataclasses import dataclass
from pathlib import Path

from evaluators.base import Foresight
from evaluators.synthetic import SyntheticConfig, synthetic_space
from search.front import hypervolume
from search.record import Record
from search.samplers.auto import AutoSampler
from search.samplers.foreseen import Foreseen, foreseen_front, most_volume
from search.samplers.gauge import Gauge
from spaces.design import Member
from spaces.objectives import KL, LATENCY, SIZE, Bound

SPACE = synthetic_space()
OBJECTIVES = KL, LATENCY, SIZE


ORIGIN = SPACE.decode(SPACE.identity()).config(SyntheticConfig).point
# Per coordinate what leaving the origin saves of ten milliseconds and of ten bytes, and what it costs.
PARTS = [(1.0, 0.2, 0.02), (0.1, 1.5, 0.01), (0.5, 0.5, 0.3), (0.8, 0.1, 0.05)] * len(ORIGIN)


@dataclass(frozen=True)
class Knowing:
    """Foresees figures that are sums over coordinates, the divergence only if asked to."""

    expects: bool = True

    def foresee(self, member: Member) -> Foresight:
        point = member.config(SyntheticConfig).point
        gone = [abs(here - there) for here, there in zip(point, ORIGIN, strict=True)]
        latency, size, kl = (sum(g * part[i] for g, part in zip(gone, PARTS, strict=False)) for i in range(3))
        known = {"latency": 10.0 - latency, "size": 10.0 - size}
        return Foresight(known, point, {"kl": kl} if self.expects else {})


def found(folder: Path, *bounds: Bound, expects: bool = True) -> tuple[list[Foreseen], Gauge]:
    record = Record.create(folder, objectives=OBJECTIVES, bounds=bounds)
    front = foreseen_front(record, SPACE, Knowing(expects), SPACE.seeds(), random.Random(0))
    fair = Knowing().foresee(SPACE.decode(SPACE.identity())).figures
    return front, Gauge.of(record, fair, [])


def volume(foreseen: list[Foreseen]) -> float:
    return hypervolume([each.place for each in foreseen], (1.0, 1.0, 1.0))


def test_nobody_on_it_is_beaten_and_no_member_is_there_twice(tmp_path: Path) -> None:
    front, _ = found(tmp_path)
    for one in front:
        others = (other.place for other in front if other.place != one.place)
        assert not any(all(a <= b for a, b in zip(other, one.place, strict=True)) for other in others)
    assert len({each.member.key for each in front}) == len(front)


def test_it_goes_far_beyond_what_it_began_with(tmp_path: Path) -> None:
    front, gauge = found(tmp_path)
    seeds = []
    for design in SPACE.seeds():
        foresight = Knowing().foresee(SPACE.decode(design))
        seeds.append(gauge.place({**foresight.expected, **foresight.figures}))
    assert volume(front) > 1.2 * hypervolume(seeds, (1.0, 1.0, 1.0))


def test_limits_hold_for_all_of_it(tmp_path: Path) -> None:
    whole, _ = found(tmp_path / "whole")
    fastest = sorted(Knowing().foresee(each.member).figures["latency"] for each in whole)
    limit = fastest[len(fastest) // 2]
    front, _ = found(tmp_path / "within", Bound("latency", limit, f"{limit}ms"))
    assert front
    assert all(Knowing().foresee(each.member).figures["latency"] < limit for each in front)


def test_there_is_none_where_an_objective_is_not_foreseen(tmp_path: Path) -> None:
    assert found(tmp_path, expects=False)[0] == []


def test_chosen_designs_dominate_more_than_as_many_in_a_row(tmp_path: Path) -> None:
    front, _ = found(tmp_path)
    assert len(most_volume(front, 5)) == 5
    assert volume(most_volume(front, 5)) > volume(front[:5])
    assert len(most_volume(front[:3], 5)) == 3


def test_a_search_begins_with_uniform_designs_and_with_foreseen_ones(tmp_path: Path) -> None:
    front, _ = found(tmp_path / "front")
    record = Record.create(tmp_path / "run", objectives=OBJECTIVES, bounds=())
    sampler = AutoSampler(record, SPACE, seeds=SPACE.seeds(), seed=0, trials=36, foreseer=Knowing())
    asked = [design for _ in range(12) if (design := sampler.ask()) is not None]
    uniform, foreseen = {design.key for design in SPACE.seeds()}, {each.design.key for each in front}
    kinds = ["uniform" if design.key in uniform else "foreseen" if design.key in foreseen else "" for design in asked]
    assert kinds == ["uniform"] * 4 + ["foreseen"] * 8
