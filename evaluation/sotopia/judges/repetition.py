"""The `repetition` judge: counts that need no model."""

import json
import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from tiller.evaluation.stats import distinct_share

from ..episode_record import EpisodeRecord, TurnRecord
from ..score_record import Score
from .judge import Judge, Missing, lines, seats

WORD = re.compile(r"\w+")
STOPS = ("left", "max_turns", "stale")
