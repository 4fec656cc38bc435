"""The machinery: reads the map, cuts the stages, runs gates and milestones. `python -m workshop --help` lists it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class WorkshopError(Exception):
    """Something a person can mend. It is shown as its message alone, and the command exits with 2."""
