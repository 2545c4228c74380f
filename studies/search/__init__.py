"""The search, by Optuna's ask-and-tell interface. The only package that imports optuna."""

import warnings

import optuna

from studies.search.hypervolume import hypervolume_history
from studies.search.prior import LEARNS
from studies.search.samplers import derive_seed, distribution_of, make_pruner, make_sampler
from studies.search.storage import check_database, delete_study, study_names, upgrade_database
from studies.search.study import FANOVA_TRIALS, HISTORY, NotOurs, Search, check_space, load_importances
from studies.search.trial_row import TrialRow, best_of, front_of, ranked

__all__ = [
    "FANOVA_TRIALS",
    "HISTORY",
    "LEARNS",
    "NotOurs",
    "Search",
    "TrialRow",
    "best_of",
    "check_database",
    "check_space",
    "delete_study",
    "derive_seed",
    "distribution_of",
    "front_of",
    "hypervolume_history",
    "load_importances",
    "make_pruner",
    "make_sampler",
    "ranked",
    "study_names",
    "upgrade_database",
]

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
