"""The error tree. Knows names and exit codes; knows nothing of who raises them.

ParetoformerError            1   something of ours went wrong
├── CallerError              2   the caller's mistake: one line with what, where and the cure
│   ├── ConfigError              an unknown or contradictory setting
│   ├── DesignError              a design that is not a point of its space
│   ├── LimitError               a limit with a wrong unit or an impossible value
│   ├── DataError                rows that cannot be used: missing column, empty, one class only
│   ├── ModelError               a model that cannot be found, loaded or taken apart
│   └── RunError                 a folder that is not a run, or belongs to another one
└── InfeasibleError          3   nothing meets the limits; carries the nearest miss per limit
"""


class ParetoformerError(Exception):
    """Root of everything this project raises on purpose."""

    exit_code = 1


class CallerError(ParetoformerError):
    """The caller asked for something impossible; the message says what, where and the cure."""

    exit_code = 2


class ConfigError(CallerError):
    """An unknown or contradictory setting."""


class DesignError(CallerError):
    """A design that is not a point of its space."""


class LimitError(CallerError):
    """A limit with a wrong unit or an impossible value."""


class DataError(CallerError):
    """Rows that cannot be used."""


class ModelError(CallerError):
    """A model that cannot be found, loaded or taken apart."""


class RunError(CallerError):
    """A folder that is not a run, or belongs to another one."""


class InfeasibleError(ParetoformerError):
    """Nothing meets the limits."""

    exit_code = 3
