"""Float scores of traces, one scorer a file; each is a `Scorer` of `star_rft.types`. Importing this loads no torch."""

from __future__ import annotations

from star_rft.scorers.judge import Endpoint, Judge, policy
from star_rft.scorers.likelihood import Likelihood
from star_rft.scorers.reward_model import RewardModel
from star_rft.scorers.simple import Majority, VerifierScorer

__all__ = ["Endpoint", "Judge", "Likelihood", "Majority", "RewardModel", "VerifierScorer", "policy"]
