"""`python -m studies.trial SPEC`: runs the trial described by a TrialSpec file."""

from studies.trial.run import main

if __name__ == "__main__":
    raise SystemExit(main())
