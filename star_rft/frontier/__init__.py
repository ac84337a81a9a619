"""What each prompt has come to, and what it is asked next."""

from star_rft.frontier.history import history
from star_rft.frontier.plan import POLICY, Unit, plan_table, read_plan, request_seed, write_plan

__all__ = ["POLICY", "Unit", "history", "plan_table", "read_plan", "request_seed", "write_plan"]
