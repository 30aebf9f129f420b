"""Which designs compete for a gain of accuracy, by the answers that search kept. Knows the run; decides nothing."""

from collections.abc import Sequence

from evaluators.base import Watch
from search.gains import Contender, Contest, contest
from search.ledger import Trial, excesses
from search.situation import Situation


def compete(situation: Situation, watch: Watch) -> Contest:
    """All complete designs against each other on the search rows.

    All that are within the limits by the search's figures, not the front alone: being the best of all of them is what
    chose the front. The limit on accuracy is left out, as the same rows would choose twice.
    """
    trials = [trial for trial in situation.record.trials() if trial.state == "complete" and _allowed(situation, trial)]
    found = list[Contender]()
    for count, trial in enumerate(trials):
        watch("compare", count, len(trials))
        kept = situation.folder / "predictions" / f"{trial.key}.npz"
        if kept.is_file():
            losses = situation.assessor.losses("search", kept.read_bytes())
            found.append(Contender(trial.key, trial.figures["latency"], losses))
    return contest(
        found,
        _original(situation),
        seed=situation.seed,
        confidence=situation.confidence,
        left_out=len(trials) - len(found),
    )


def finalists(situation: Situation, found: Contest) -> Sequence[Trial]:
    """The trials to verify: whoever may be picked for its gain, and the original."""
    wanted = {*(leader.key for leader in found.leaders), found.original}
    return [
        trial
        for trial in situation.record.trials()
        if trial.key in wanted and trial.state == "complete" and _allowed(situation, trial)
    ]


def _allowed(situation: Situation, trial: Trial) -> bool:
    bounds = [bound for bound in situation.bounds if bound.name != "accuracy_drop"]
    return all(excess <= 0 for excess in excesses(bounds, trial.values, trial.extras).values())


def _original(situation: Situation) -> str:
    return situation.space.decode(situation.space.identity()).key
