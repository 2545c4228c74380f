"""`python -m studies.trial SPEC`: runs the trial that a file of a TrialSpec describes."""

from studies.trial.run import main

if __name__ == "__main__":
    raise SystemExit(main())
