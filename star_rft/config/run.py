"""The whole config of a run, with the checks that involve several sections."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PrivateAttr, model_validator

from star_rft.config.base import Section, one_or_many
from star_rft.config.data import DataConfig, ModelConfig, PromptConfig
from star_rft.config.sampling import (
    BudgetConfig,
    EvalConfig,
    RationalizeConfig,
    RayConfig,
    SampleConfig,
    ScorerConfig,
    ServerConfig,
    TemperatureSearchConfig,
    VerifierConfig,
    VLLMConfig,
)
from star_rft.config.training import (
    GateConfig,
    LaunchConfig,
    PreferenceConfig,
    SelectConfig,
    TrainConfig,
    WarmStartConfig,
)


class AboutConfig(Section):
    """A recipe's paper, what the paper reports, and how this config differs. It has no effect on a run."""

    title: str
    paper: str
    published: str
    differences: list[str]
    run: str = "smoke-tested only"


class Config(Section):
    """All settings of a run, checked against each other. Errors of a check that comes later begin with `origin`."""

    _origin: str = PrivateAttr("config")
    about: AboutConfig | None = None
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: Annotated[int, Field(ge=0)] = 0
    rounds: Annotated[int, Field(ge=0)] = 3
    run_dir: str | None = None
    model: ModelConfig = ModelConfig()
    data: DataConfig
    prompt: PromptConfig = PromptConfig()
    verifier: VerifierConfig = VerifierConfig()
    sample: SampleConfig = SampleConfig()
    vllm: VLLMConfig = VLLMConfig()
    server: ServerConfig | None = None
    ray: RayConfig = RayConfig()
    budget: BudgetConfig = BudgetConfig()
    temperature_search: TemperatureSearchConfig | None = None
    rationalize: RationalizeConfig | None = None
    scorer: ScorerConfig | None = None
    select: SelectConfig = SelectConfig()
    train: TrainConfig | None = TrainConfig()
    preference: PreferenceConfig | None = None
    warm_start: WarmStartConfig | None = None
    launch: LaunchConfig = LaunchConfig()
    eval: EvalConfig = EvalConfig()
    gate: GateConfig | None = GateConfig()
    report_to: Annotated[str | list[str], one_or_many(str)] | None = None
    forked_from: str | None = None
    versions: dict[str, str] = {}
    machine: dict[str, str] = {}

    @model_validator(mode="after")
    def _there_is_something_to_train_on(self) -> Config:
        if self.data.train is None and (self.rounds > 0 or self.warm_start is not None):
            raise ValueError(f"data.train is missing, and rounds={self.rounds} would train on it")
        return self

    @model_validator(mode="after")
    def _a_server_has_an_address(self) -> Config:
        server = self.server
        if self.sample.backend == "server" and (server is None or (not server.urls and server.start is None)):
            raise ValueError("sample.backend is server, which needs server.url or server.start")
        return self

    @model_validator(mode="after")
    def _warm_start_exists_where_it_is_used(self) -> Config:
        if self.warm_start is not None:
            return self
        for key, section in (("train", self.train), ("preference", self.preference)):
            if section is not None and section.start == "warm_start":
                raise ValueError(f"{key}.from is 'warm_start' but there is no warm_start section; valid: base, last")
        if self.train is not None and self.train.mix > 0:
            raise ValueError(f"train.mix={self.train.mix} draws from the warm start's data but there is none")
        return self

    @model_validator(mode="after")
    def _a_temperature_is_found_on_dev(self) -> Config:
        if self.temperature_search is not None and self.data.dev is None:
            raise ValueError("temperature_search tries temperatures on data.dev, which is missing")
        if self.temperature_search is not None and "policy" not in self.sample.models:
            raise ValueError(
                "temperature_search tries the policy's temperatures, but policy is missing in"
                f" sample.models={self.sample.models}"
            )
        return self

    @model_validator(mode="after")
    def _something_trains_the_policy(self) -> Config:
        if self.train is None and (self.preference is None or self.preference.makes == "verifier"):
            raise ValueError("train is null and no preference section trains the policy: give one of them")
        if self.preference is not None and not any("pairs" in rule for rule in self.select.rules):
            raise ValueError("preference compares what the rule 'pairs' ranks, and select.rules has none")
        return self

    def __eq__(self, other: object) -> bool:
        # Settings alone: pydantic would compare where they were read from too.
        return isinstance(other, Config) and self.__dict__ == other.__dict__

    @property
    def origin(self) -> str:
        """What the config was read from: a file's path, or "config" for a mapping."""
        return self._origin

    @property
    def folder(self) -> Path:
        """The run folder: `run_dir`, or `runs/NAME` in the working folder."""
        return Path(self.run_dir) if self.run_dir else Path("runs") / self.name
