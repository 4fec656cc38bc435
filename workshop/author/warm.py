"""What the server that forks judges loads beforehand: all that every judge needs, but nothing of the judged package."""

import gc
import tracemalloc  # noqa: F401

import numpy  # noqa: F401
import pytest  # noqa: F401
import pytest_timeout  # noqa: F401
from _pytest import doctest, junitxml, python, terminal, unittest  # noqa: F401

import workshop.judge
import workshop.tables  # noqa: F401

gc.collect()
gc.freeze()  # a garbage collection in the child need not look at any of this, nor copy its memory
