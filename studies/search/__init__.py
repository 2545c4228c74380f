"""The search, by Optuna's ask-and-tell interface. The only package that imports optuna."""

import warnings

import optuna

from studies.search.samplers import derive_seed, distribution_of, make_pruner, make_sampler
from studies.search.storage import check_database, study_names, upgrade_database
from studies.search.study import FANOVA_TRIALS, NotOurs, Search, TrialRow, best_of, check_space, load_importances

__all__ = [
    "FANOVA_TRIALS",
    "NotOurs",
    "Search",
    "TrialRow",
    "best_of",
    "check_database",
    "check_space",
    "derive_seed",
    "distribution_of",
    "load_importances",
    "make_pruner",
    "make_sampler",
    "study_names",
    "upgrade_database",
]

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
