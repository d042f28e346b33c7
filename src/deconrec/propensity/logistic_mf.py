"""Logistic matrix factorisation of exposures: p_ui = sigma(p_u . q_i + b_u + b_i + b), fitted to o over D.

Risk.   E_D[ -o log p - (1 - o) log(1 - p) ] + (l2 / 2) ||theta||^2

Cross-fitting (`folds` = K > 1). Pairs fall into K folds by a fixed rule of their codes; network k is fitted to all
folds but the k-th, and a pair's propensity comes from the network that never saw whether it was observed.

Over impressions D is their table, p a network of their context (`nn.impressions`), and a hold-out stops training.

Needs.  exposures only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from deconrec.base import Propensity, Spec
from deconrec.data.dataset import Dataset
from deconrec.data.split import cut
from deconrec.losses.elementwise import cross_entropy
from deconrec.nn.backbone import BACKBONE_DOC, BACKBONES, density_logit, pair_net
from deconrec.nn.restoring import check_sizes
from deconrec.pairs import NO_TABLES, Batch, Pairs
from deconrec.parameters import Search, parameter
from deconrec.propensity.floor import Overlap, automatic, floored, refuse_constant
from deconrec.random import seed_sequence
from deconrec.training.features import feature_tables
from deconrec.training.impressions import IMPRESSION_PRIOR, ImpressionRows, ImpressionSource
from deconrec.training.program import Adam, History, Nets, Phase, Program, Step, Terms
from deconrec.training.samplers import Blocks, Sampler, Source, UniformPairs, log_pairs
from deconrec.training.trainer import Trainer

LARGEST_GRID = 50_000_000  # pairs
HOLDOUT, PATIENCE = (
    0.15,
    3,
)  # NOTE share of impressions that stop training, and epochs without a better fit to them
PASS = 9  # NOTE most steps of a pass over a grid: smaller blocks of a large one leave the noise of their last steps


@dataclass(kw_only=True, eq=False, repr=False)
class LogisticMF(Propensity):
    """Logistic matrix factorisation of the exposures."""

    backbone: str = parameter(
        "mf",
        BACKBONE_DOC,
        choices=BACKBONES,
    )
    dim: int = parameter(8, "number of factors", low=1, search=Search(2, 64, log=True, whole=True))
    lr: float = parameter(0.03, "learning rate of Adam", above=0)
    l2: float = parameter(1e-5, "weight of (1/2)||theta||^2", low=0, search=Search(1e-7, 1e-3, log=True))
    epochs: int = parameter(40, "passes over D", low=1)
    batch: int = parameter(32_768, "pairs in a step, at least: a ninth of D where that is more", low=1)
    floor: float | None = parameter(
        None,
        "smallest propensity; none = the log's density, at most 0.1",
        above=0,
        high=1,
        search=Search(0.01, 0.5, log=True),
    )
    folds: int = parameter(1, "cross-fitting folds; 1 = fitted and used on the same pairs", low=1, high=20)
    seed: int = parameter(0, "draws initial values and batches", low=0)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        nets_: Nets
        history_: History
        overlap_: Overlap
        floor_: float
        outside_: tuple[int, np.ndarray] | None

    def fit(self, data: Dataset, excluded: csr_matrix | None = None) -> LogisticMF:
        """Fit to the exposures of the biased log, over the pairs that were not `excluded`."""
        self.check_params()
        self.outside_ = None
        if excluded is not None and excluded.nnz:
            row, col = excluded.nonzero()
            self.outside_ = data.n_items, np.sort(row.astype(np.int64) * data.n_items + col)
        generator = seed_sequence(self.seed, "propensity").generate_state(1)[0]
        tables = feature_tables(data) if self.backbone == "fm" else NO_TABLES
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator))
            self.nets_ = self.nets(Spec.of(data))
            if data.impressions is not None:
                self.history_ = self._fit_impressions(data)
            else:
                sampler: Sampler = UniformPairs(max(1, self.batch // 4), self.batch)
                if data.n_users * data.n_items <= LARGEST_GRID:
                    cells = max(self.batch, data.n_users * data.n_items // PASS)
                    sampler = Blocks.of_cells(data.shape, cells)
                trainer = Trainer(self.epochs, Adam(self.lr, self.l2), seed=self.seed)
                self.history_ = trainer.run(self.nets_, self.program(), sampler, Source.of(data, tables))
        observed = log_pairs(data, data.biased, tables)
        with torch.no_grad():
            p = torch.sigmoid(self.logit(self.nets_, observed)).numpy()
        self.floor_ = automatic(self.floor, data.density)
        refuse_constant(p, self.floor_, "logistic-mf")
        self.overlap_ = Overlap.of(p, self.floor_)
        self.overlap_.warn("logistic-mf")
        return self

    def _fit_impressions(self, data: Dataset) -> History:
        """Stopped by a hold-out of the impressions: the network has more freedom than factors of ids."""
        train, held = cut(data, HOLDOUT, self.seed)
        assert train.impressions is not None
        source, judged = ImpressionSource.of(train), ImpressionSource.of(held).rows
        judged = replace(judged, user=judged.user.long(), item=judged.item.long())

        def score() -> float:
            return -float(judged.average(cross_entropy(self.logit(self.nets_, judged), judged.o)))

        l2 = max(self.l2, IMPRESSION_PRIOR / len(train.impressions))
        trainer = Trainer(self.epochs, Adam(self.lr, l2), patience=PATIENCE, seed=self.seed)
        return trainer.run(self.nets_, self.program(), ImpressionRows(self.batch), source, score)

    def nets(self, spec: Spec) -> Nets:
        """A network a fold; their offsets start at the log's density."""
        start = density_logit(spec)
        return Nets(**{name: pair_net(self.backbone, spec, self.dim, offset=start) for name in self.names})

    @property
    def names(self) -> tuple[str, ...]:
        """The networks' names, one a fold."""
        return ("propensity",) if self.folds == 1 else tuple(f"propensity_{k}" for k in range(self.folds))

    def fold(self, pairs: Pairs) -> Tensor:
        """(n,) the fold of each pair, in [0, folds): a fixed rule, so that a pair never changes sides."""
        return ((pairs.user * 7919 + pairs.item * 104_729) >> 3) % self.folds

    def logit(self, nets: Nets, pairs: Pairs) -> Tensor:
        """(n,) logits, each from the network that was not fitted to the pair."""
        if self.folds == 1:
            return nets.propensity(pairs)
        everyone = torch.stack([nets[name](pairs) for name in self.names])
        return everyone.gather(0, self.fold(pairs)[None])[0]

    def program(self) -> Program:
        """One step over D."""
        return [Phase(Step(self.exposure, updates=self.names))]

    def exposure(self, nets: Nets, b: Batch) -> Terms:
        """L_CTR, of each network over the folds that it is fitted to."""
        d = b.space
        inside = self._inside(d)
        if self.folds == 1:
            return {"exposure": d.expect(cross_entropy(nets.propensity(d), d.o) * inside)}
        fold, share = self.fold(d), self.folds / (self.folds - 1)
        return {
            f"exposure_{k}": share * d.expect(cross_entropy(nets[name](d), d.o) * inside * (fold != k))
            for k, name in enumerate(self.names)
        }

    def click_logit(self, pairs: Pairs) -> Tensor:
        """(n,) logits of P(o = 1), before the floor."""
        return self.logit(self.nets_.to(pairs.o.device), pairs)

    def _inside(self, pairs: Pairs) -> Tensor | float:
        """(n,) 1 for pairs that could be logged, 0 for excluded ones; 1 where none are."""
        known = getattr(self, "outside_", None)  # the loss may be asked for without a fit
        if known is None:
            return 1.0
        n_items, outside = known
        key = (pairs.user * n_items + pairs.item).cpu().numpy()
        place = np.minimum(np.searchsorted(outside, key), len(outside) - 1)
        return torch.from_numpy((outside[place] != key).astype(np.float32)).to(pairs.o.device)

    @torch.no_grad()
    def __call__(self, pairs: Pairs) -> Tensor:
        """(n,) in [floor, 1]; the pairs carry features where the backbone reads them."""
        return floored(torch.sigmoid(self.logit(self.nets_.to(pairs.o.device), pairs)), self.floor_)

    @torch.no_grad()
    def of_new(self, pairs: Pairs, n_users: int) -> Tensor:
        """(n,) in [floor, 1], from the item and the new users' features; with several folds, the logits' mean."""
        total = torch.zeros_like(pairs.o)
        for name in self.names:
            net: Any = self.nets_[name]
            own, bias = net.new_users(n_users, pairs.tables.user)
            q, b_i = net.item_side(pairs.tables)
            total += (own[pairs.user] * q[pairs.item]).sum(1) + bias[pairs.user] + b_i[pairs.item]
        return floored(torch.sigmoid(total / len(self.names)), self.floor_)

    def _state(self) -> dict[str, np.ndarray]:
        nets = {k: v.detach().cpu().numpy() for k, v in self.nets_.state_dict().items()}
        return nets | {"floor": np.array([self.floor_])}

    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        check_sizes(lambda: self.nets(spec), state)
        self.nets_ = self.nets(spec)
        self.floor_ = float(state["floor"][0])
        self.nets_.load_state_dict(
            {k: torch.from_numpy(np.array(v)) for k, v in state.items() if k != "floor"}
        )
