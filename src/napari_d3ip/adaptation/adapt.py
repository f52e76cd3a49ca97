"""Adaptation of the prior to the scan at hand: LoRA on a loss over a few Monte Carlo slices.

Chung & Ye, ECCV 2024, sections 3.2 (DDIP) and 3.3 (D3IP). Knows operators, solvers and the prior; nothing of sampling.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from napari_d3ip.adaptation.adapter import Adapter, AdapterState
from napari_d3ip.adaptation.losses import Iterate, Loss, create_loss
from napari_d3ip.adaptation.splitting import Splits
from napari_d3ip.adaptation.validation import Fit, validation_losses
from napari_d3ip.errors import D3IPError
from napari_d3ip.prior.network import DiffusionPrior
from napari_d3ip.settings.run import Adaptation as AdaptationSettings

# Relative decrease of the validation loss below which no further round follows. Record: docs/research/early-end.md.
_LEAST_GAIN = 0.01


class Adaptation:
    """Adapters phi of a prior under adaptation to a scan, or to some slices of it.

    Parameters
    ----------
    prior : DiffusionPrior
        The prior, with the adapters in its network.
    adapter : Adapter
        The adapters; several adaptations may take turns with the same.
    settings : napari_d3ip.settings.run.Adaptation
        Steps, loss and so on.
    generator : torch.Generator
        Of all random numbers of adaptation.
    splits : Splits or None
        Training and validation splits.
    """

    def __init__(
        self,
        prior: DiffusionPrior,
        adapter: Adapter,
        settings: AdaptationSettings,
        generator: torch.Generator,
        splits: Splits | None = None,
    ) -> None:
        self.prior, self.adapter, self.settings, self.generator, self.splits = (
            prior,
            adapter,
            settings,
            generator,
            splits,
        )

    def is_due(self, index: int) -> bool:
        """Return whether to adapt before the sampling step ``index``, counted from 0."""
        return self.settings.is_due(index) and not self.adapter.ended

    def round(self, now: Iterate, steps: int | None = None) -> Fit:
        """Take L optimizer steps, each on K slices drawn anew (Chung & Ye 2024, algorithm 2), then validate them.

        The cost does not depend on the number of slices. Where validation data are not predicted better with the
        adapters than by the pretrained prior, the round is undone.

        Raises
        ------
        D3IPError
            If the round did not move the adapters: the network would be adapted in name only.
        """
        loss = self._loss(now)
        return self._validated(now, lambda: self._descend(loss, now, steps or self.settings.steps))

    def reptile_round(self, now: Iterate, rate: float) -> Fit:
        """Take L steps on each slab of slices in turn, ``phi <- phi + rate (phi' - phi)`` after each, then validate.

        The outer loop of Meta-D3IP (Chung & Ye 2024, section 3.3; Reptile, Nichol et al. 2018). The volume is cut into
        ``meta_groups`` slabs, so the cost does not depend on the number of slices. With one slab and a rate of 1 it is
        `round`. A slab learns from the splits that begin in it, or from all where none does.

        Raises
        ------
        D3IPError
            As `round`.
        """

        def descend() -> list[float]:
            losses: list[float] = []
            slices = len(now.x_t)
            for slab in torch.arange(slices).tensor_split(min(self.settings.meta_groups, slices)):
                phi = self.adapter.weights()
                part = now.restrict(slab)
                losses += self._descend(self._loss(part, (int(slab[0]), int(slab[-1]))), part, self.settings.steps)
                self.adapter.interpolate(phi, rate)
            return losses

        return self._validated(now, descend)

    def _loss(self, now: Iterate, slab: tuple[int, int] | None = None) -> Loss:
        """Begin the loss of a round, on the training splits that begin in a slab if any do."""
        training = [] if self.splits is None else self.splits.training
        own = [split for split in training if slab is not None and slab[0] <= split.index[0] <= slab[1]]
        return create_loss(self.settings.loss, own or training).begin(now, self.generator)

    def _descend(self, loss: Loss, now: Iterate, steps: int) -> list[float]:
        """Take optimizer steps, and return the loss of each."""
        losses = []
        for _ in range(steps):
            now.problem.check()
            value = loss(self.prior, now, self.generator)
            self.adapter.step(value)
            losses.append(float(value.detach()))
        return losses

    def _validated(self, now: Iterate, descend: Callable[[], list[float]]) -> Fit:
        """Descend, and restore what was before if the validation loss did not improve.

        Where validation splits see hardly a gain, that was the last round.
        """
        before = self.adapter.state()
        losses = descend()
        with self.adapter.in_use(accepted=True):
            shift = self.adapter.shift()
        if shift == 0.0 or not self.adapter.has_moved(before):
            raise D3IPError("learning_rate: adaptation left the network unchanged; raise it, or use method dds.")
        validation = [] if self.splits is None else self.splits.validation
        found = validation_losses(self.prior, self.adapter, now, validation, self.generator)
        held_out, without = found or (None, None)
        # Not the other way round: a loss that is not a number is no gain.
        self._accept(before, held_out is None or without is None or held_out < without)
        if validation and found is not None:
            self.adapter.ended = not found[0] < (1 - _LEAST_GAIN) * found[1]
        return Fit(sum(losses) / len(losses), held_out, without, shift, self.adapter.accepted, self.adapter.ended)

    def _accept(self, before: AdapterState, accepted: bool) -> None:
        if not accepted:
            self.adapter.load(before)
        self.adapter.accepted = accepted
