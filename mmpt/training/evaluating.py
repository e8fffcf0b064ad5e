"""Evaluations of a run: figures at certain steps, the best of them, and when there is no use in going on."""

import json
import math
from pathlib import Path
from typing import Any, cast

from mmpt.chat import ChatFormat
from mmpt.data.shards.read import TokenShards
from mmpt.errors import ConfigError
from mmpt.evaluation.pages.samples import samples_page
from mmpt.evaluation.pages.suite import write_page
from mmpt.evaluation.samples import write_samples
from mmpt.evaluation.suite import load_suite, run_suite, suite_figures
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.evaluate_config import SUITE
from mmpt.training.held_out import HeldOut, at_rest
from mmpt.training.inputs import open_start
from mmpt.training.language_model import LanguageModel
from mmpt.training.live import emptied, lent, live_model, prompts
from mmpt.training.metrics import Metrics
from mmpt.training.trainer import GO_ON, Engine, Verdict

Figures = dict[str, dict[str, float]]


class Evaluation:
    """What `config.evaluate` asks for; every rank has one. `state`: what `state_dict` gave, of the checkpoint that the run goes
    on from; `sources`: the data of the run, by which under ZeRO 3 the form of a whole model is opened beside. Raises `MmptError`
    where something that it needs is missing: before the first step, not after hours."""

    def __init__(
        self,
        config: TrainingConfig,
        engine: Engine,
        world: World,
        chat: ChatFormat | None = None,
        state: dict[str, Any] | None = None,
        sources: list[TokenShards] | None = None,
    ) -> None:
        assert config.evaluate is not None
        self._config, self._asked, self._engine, self._world = config, config.evaluate, engine, world
        trained = cast(LanguageModel, engine.module.trainable)
        asked = config.evaluate
        self._held_out = HeldOut(config, trained.vocabulary, world, trained.inputs) if asked.shards else None
        self._suite = None if asked.suite is None else load_suite(asked.suite, config.output)
        lives = bool(asked.suite or asked.samples)
        cut_up = lives and config.zero_stage == 3 and sources is not None
        self._whole = emptied(open_start(config, sources, world), world.device) if cut_up else None
        self._model = live_model(trained, config, chat, world, self._whole) if lives else None
        self._prompts = prompts(asked.samples, self._model) if self._model else []
        self.best: dict[str, Any] = {"step": None, "value": None, "since": 0, **(state or {})}

    @property
    def over(self) -> bool:
        """Whether the patience of the run has ended."""
        patience = self._asked.best.patience if self._asked.best else None
        return patience is not None and self.best["since"] >= patience

    def state_dict(self) -> dict[str, Any]:
        """The best so far (`step`, `value`), and how many evaluations there were `since`; JSON values."""
        return dict(self.best)

    def is_best(self, step: int) -> bool:
        """Whether the evaluation of `step` is the best so far."""
        return self.best["step"] == step

    def after(self, step: int, log: Metrics) -> Verdict:
        """Evaluate where that is due after step `step`."""
        if not self._asked.due(step, self._config.steps):
            return GO_ON
        with log.aside():
            figures, page = self._figures(step)
        log.evaluated(step, figures, page)
        if self._asked.best is None:
            return GO_ON
        value = self._chosen(figures)
        if value is not None and self._better(value):
            self.best = {"step": step, "value": value, "since": 0}
        else:
            self.best = {**self.best, "since": self.best["since"] + 1}
        if self.over and self._world.rank == 0:
            print(
                f"step {step}: {self._asked.best.figure} was {self.best['value']} after step {self.best['step']} and no better "
                f"in the {self.best['since']} evaluations since: the run ends",
                flush=True,
            )
        return Verdict(save=self.is_best(step), stop=self.over)

    def _figures(self, step: int) -> tuple[Figures, str]:
        figures: Figures = {}
        if self._held_out is not None:
            figures["held_out"] = self._held_out.figures(self._engine)
        page = ""
        if self._prompts or self._asked.suite_due(step, self._config.steps):
            # One rank works, and the others wait for what it says, since all must come to one verdict.
            with lent(self._engine, self._whole, self._world):
                said = json.loads(self._world.by_first(f"evaluation/{step}", lambda: json.dumps(self._of_live_model(step))))
            figures, page = {**figures, **said["figures"]}, said["page"]
        return {name: {key: one for key, one in values.items() if math.isfinite(one)} for name, values in figures.items()}, page

    def _of_live_model(self, step: int) -> dict[str, Any]:
        assert self._model is not None
        name, page, figures = f"step-{step:08d}", "", {}
        with at_rest(self._engine, self._world):
            if self._prompts:
                self._world.mark("writing samples")
                page = samples_page(step, write_samples(self._model, self._prompts, self._config.output / "samples" / name))
            if self._suite is not None and self._asked.suite_due(step, self._config.steps):
                figures["suite"] = self._measured(step, self._config.output / "evaluations" / name)
        return {"figures": figures, "page": page}

    def _measured(self, step: int, out: Path) -> dict[str, float]:
        assert self._suite is not None and self._model is not None

        def tell(line: str) -> None:
            self._world.mark("measuring the suite")
            print(f"step {step}: {line}", flush=True)

        run_suite(self._suite, self._model, str(self._config.output), out, f"step {step}", tell)
        write_page([out], out / "report.html")
        return suite_figures(out)

    def _chosen(self, figures: Figures) -> float | None:
        assert self._asked.best is not None
        figure = self._asked.best.figure
        of_suite = figure.startswith(SUITE)
        found = figures.get("suite" if of_suite else "held_out", {})
        name = figure.removeprefix(SUITE) if of_suite else figure
        if name not in found and self.best["step"] is None and self.best["since"] == 0:
            raise ConfigError(f"evaluate.best.figure: {figure} is not among {', '.join(found) or 'the figures: there are none'}")
        return found.get(name)

    def _better(self, value: float) -> bool:
        assert self._asked.best is not None
        known = self.best["value"]
        return known is None or (value < known if self._asked.best.better == "less" else value > known)
