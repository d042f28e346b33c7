"""Methods trained by gradient: `PairEstimator` (networks over pairs) and `RowEstimator` (over user rows).

A method file gives `nets(spec)` and `program()`; everything else stands here once.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from scipy.special import expit
from torch import Tensor, nn

from deconrec.base import Estimator, ExposureModel, Propensity, Spec
from deconrec.data.dataset import Dataset, Log
from deconrec.data.split import ValidationPart
from deconrec.errors import DataError, MissingUnbiasedLog, ParameterError
from deconrec.evaluation.calibration import platt
from deconrec.evaluation.logits import probability
from deconrec.evaluation.overlap import Overlap, refuse_constant
from deconrec.evaluation.ranking import place_blocks
from deconrec.evaluation.rating import auc, logloss, mse
from deconrec.losses.elementwise import ErrorKind, error
from deconrec.nn.backbone import BACKBONE_DOC, BACKBONES, density_logit, pair_net
from deconrec.nn.mf import fold_in
from deconrec.nn.restoring import check_sizes
from deconrec.pairs import NO_TABLES, Pairs, Rows, Tables
from deconrec.parameters import Parameterised, Search, parameter
from deconrec.random import seed_sequence
from deconrec.training.distributed import current
from deconrec.training.features import spread, standardised
from deconrec.training.impressions import IMPRESSION_PRIOR, ImpressionRows, ImpressionSource, impression_pairs
from deconrec.training.program import Adam, History, Nets, Program
from deconrec.training.samplers import Blocks, Sampler, Source, UniformPairs, log_pairs, user_rows
from deconrec.training.trainer import Trainer

LARGEST_GRID = 50_000_000  # NOTE pairs; a larger space is sampled uniformly, not visited whole
VALIDATION_K = 20
ANSWERED = 262_144  # impressions answered at once


@dataclass(kw_only=True, eq=False, repr=False)
class TorchEstimator(Estimator):
    """A method whose networks are trained by the engine."""

    lr: float = parameter(0.03, "learning rate of Adam", above=0, search=Search(1e-3, 5e-2, log=True))
    l2: float | None = parameter(
        None,
        "weight of (1/2)||theta||^2; none = a normal prior of the same width whatever the log's size",
        low=0,
        search=Search(1e-6, 1e-2, log=True),
    )
    epochs: int = parameter(300, "most passes over the data", low=0)
    patience: int = parameter(
        20, "epochs without a better validation score before stopping; 0 = never", low=0
    )
    batch: int = parameter(2048, "pairs (or users, for row methods) in a step", low=1)
    seed: int = parameter(0, "draws initial values, batches and the hold-out", low=0)
    device: str = parameter("cpu", "torch device: cpu, cuda, cuda:0, mps")

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        nets_: Nets
        history_: History
        x_mean_: np.ndarray
        x_std_: np.ndarray
        y_mean_: np.ndarray
        y_std_: np.ndarray

    PRIOR: ClassVar[float] = (
        3.5  # NOTE precision of that prior, in rows: chosen on hold-outs of Coat and sim-pairs
    )

    SHARED: ClassVar[bool] = True  # several processes can share a batch, see `training.distributed`

    OVER_SPACE: ClassVar[bool] = (
        False  # every loss is a mean over D: there the prior is weighed against |D| impressions
    )

    @property
    def l2_(self) -> float:
        """The weight in force: losses are means over the log's rows, so that a prior weighs PRIOR / rows."""
        if self.l2 is not None:
            return self.l2
        if self.spec_.n_impressions:
            rows = self.spec_.n_impressions if self.OVER_SPACE else self.spec_.rows
            return IMPRESSION_PRIOR / max(rows, 1)
        return self.PRIOR / max(self.spec_.rows, 1)

    def check_params(self) -> None:
        """Ranges, and that the device is there."""
        super().check_params()
        check_device(self.device, type(self).__name__)

    @abstractmethod
    def nets(self, spec: Spec) -> Nets:
        """The networks, freshly initialised."""

    @abstractmethod
    def program(self) -> Program:
        """The training program."""

    @abstractmethod
    def sampler(self, data: Dataset) -> Sampler:
        """The sampler of a data set."""

    @abstractmethod
    def validation_score(self, validation: ValidationPart) -> float:
        """Higher is better."""

    # ------------------------------------------------------------------ fitting
    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        self.history_ = self._train(data, validation, self.epochs, progress=progress)

    def _train(
        self,
        data: Dataset,
        validation: ValidationPart,
        epochs: int,
        *,
        again: bool = False,
        progress: bool = False,
    ) -> History:
        if current() is not None and not self.SHARED:
            raise ParameterError(not_shared(self))
        generator = seed_sequence(self.seed, "initial values").generate_state(1)[0]
        with torch.random.fork_rng(
            devices=[]
        ):  # dropout and initial values leave the caller's generator alone
            torch.manual_seed(int(generator))
            self.x_mean_, self.x_std_ = spread(data.user_features if self.tags.uses_features else None)
            self.y_mean_, self.y_std_ = spread(data.item_features if self.tags.uses_features else None)
            for name, model in self._nuisances().items():
                before = getattr(self, f"{name}_", None)
                if again and isinstance(before, Estimator):  # nothing would stop it now
                    before.learn_again(data)
                else:
                    setattr(self, f"{name}_", _fit_nuisance(model, data, validation, self))
            self.nets_ = self.nets(self.spec_).to(self.device)
            source = self._source(data)
            score = (lambda: self.judge(validation)) if len(validation.data.biased) else None
            program = self.program()
            warmup = max((phase.start for phase in program), default=0)
            if 0 < epochs <= warmup:
                raise ParameterError(
                    f"'epochs' of {type(self).__name__} must be a whole number > {warmup} (its warm-up); got "
                    f"{epochs}."
                )
            trainer = Trainer(
                epochs,
                Adam(self.lr, self.l2_),
                self.patience,
                warmup=warmup,  # patience counts from where every step is at work
                seed=self.seed,
                progress=type(self).__name__ if progress else None,
            )
            return trainer.run(self.nets_, program, self.sampler(data), source, score)

    def _source(self, data: Dataset) -> Source | ImpressionSource:
        if data.impressions is not None:
            return ImpressionSource.of(data, self.device)
        return Source.of(data, self.tables(data), self.device)

    def _nuisances(self) -> dict[str, Parameterised]:
        fields = dataclasses.fields(self)
        return {
            f.name: getattr(self, f.name)
            for f in fields
            if "options" in f.metadata and getattr(self, f.name) is not None
        }

    def tables(self, data: Dataset) -> Tables:
        """Feature tables as the networks see them, standardised on the users and items of the training data."""
        if not self.tags.uses_features:
            return NO_TABLES
        return Tables(
            standardised(data.user_features, self.x_mean_, self.x_std_),
            standardised(data.item_features, self.y_mean_, self.y_std_),
        )

    # ------------------------------------------------------------------ saving
    def _state(self) -> dict[str, np.ndarray]:
        out = {f"nets.{k}": v.detach().cpu().numpy() for k, v in self.nets_.state_dict().items()}
        out |= {"x_mean": self.x_mean_, "x_std": self.x_std_, "y_mean": self.y_mean_, "y_std": self.y_std_}
        for name in self._nuisances():
            fitted = getattr(self, f"{name}_")
            state = _teacher_state(fitted) if isinstance(fitted, Estimator) else fitted._state()
            out |= {f"{name}.{k}": v for k, v in state.items()}
        return out

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        self.x_mean_, self.x_std_, self.y_mean_, self.y_std_ = (
            np.array(state[name]) for name in ("x_mean", "x_std", "y_mean", "y_std")
        )
        with torch.random.fork_rng(devices=[]):  # initial values are drawn, and replaced at once
            for name, model in self._nuisances().items():
                fitted = model.clone()
                if isinstance(fitted, Estimator):
                    _restore_teacher(fitted, _below(state, f"{name}."), self)
                elif isinstance(fitted, Propensity | ExposureModel):
                    fitted._restore(_below(state, f"{name}."), self.spec_)
                setattr(self, f"{name}_", fitted)
            check_sizes(lambda: self.nets(self.spec_), _below(state, "nets."))
            self.nets_ = self.nets(self.spec_)
        arrays = {k: torch.from_numpy(np.array(v)) for k, v in _below(state, "nets.").items()}
        self.nets_.load_state_dict(arrays)
        self.nets_.to(self.device).eval()


@dataclass(kw_only=True, eq=False, repr=False)
class PairEstimator(TorchEstimator):
    """A method whose networks answer for (user, item) pairs.

    The net named `prediction` gives the logit of the outcome. Fold-in of a new user: its factors and bias alone
    are fitted to its history, unweighted, with the item side fixed and the training's L2 (see `nn.mf`).
    """

    backbone: str = parameter(
        "mf",
        BACKBONE_DOC,
        choices=BACKBONES,
    )
    dim: int = parameter(32, "number of factors", low=1, search=Search(4, 128, log=True, whole=True))
    error: str = parameter(
        "auto",
        "pointwise error d(r, r_hat): auto = cross-entropy for a binary outcome, squared otherwise",
        choices=("auto", "cross-entropy", "squared"),
    )

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        tables_: Tables
        overlap_: Overlap | None

    @property
    def error_kind(self) -> ErrorKind:
        """The pointwise error in force.

        Raises
        ------
        DataError: cross-entropy on an outcome that is not binary.
        """
        binary = self.scale_.binary
        if self.error == "auto":
            return "cross-entropy" if binary else "squared"
        if self.error == "cross-entropy" and not binary:
            raise DataError(
                f"the cross-entropy of {type(self).__name__} needs outcomes 0 and 1; the ratings run from "
                f"{self.scale_.low:g} to {self.scale_.high:g}. Use error='squared', or set `binarize`."
            )
        return "squared" if self.error == "squared" else "cross-entropy"

    @property
    def reads_features(self) -> bool:
        """Whether a network of the method, or of its propensity, reads features."""
        backbones = [self.backbone, *(getattr(m, "backbone", None) for m in self._nuisances().values())]
        return "fm" in backbones

    @property
    def takes_impressions(self) -> bool:
        """Whether the method's networks can be those of impressions, which "fm" is not."""
        return not self.reads_features

    def net(self, spec: Spec, *, offset: float = 0.0, still: bool = False) -> nn.Module:
        """A network of the backbone over pairs: a logit for each; parameters as of `nn.mf.MF`."""
        return pair_net(self.backbone, spec, self.dim, offset=offset, still=still)

    def exposure_net(self, spec: Spec) -> nn.Module:
        """A network of exposure logits, whose global bias starts at the log's density."""
        return self.net(spec, offset=density_logit(spec))

    def d(self, logit: Tensor, r: Tensor) -> Tensor:
        """Pointwise errors of r_hat = sigma(logit) against outcomes in [0, 1], elementwise."""
        return error(self.error_kind, logit, r)

    @property
    def reads_space(self) -> bool:
        """Whether a risk of the method reads the entire space D."""
        return True

    def sampler(self, data: Dataset) -> Sampler:
        """Blocks where the space is read and small enough to be visited whole, else uniform pairs; or impressions."""
        if data.impressions is not None:
            return ImpressionRows(self.batch, self.reads_space)
        if not self.reads_space:
            return UniformPairs(self.batch)
        if data.n_users * data.n_items <= LARGEST_GRID:
            return Blocks.of_cells(data.shape, self.batch)
        return UniformPairs(max(1, self.batch // 4), self.batch)

    def validation_score(self, validation: ValidationPart) -> float:
        """AUC where both outcomes occur, minus the error otherwise."""
        return pairs_score(self, validation.data, validation.data.biased)

    @torch.no_grad()
    def _pairs(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        out = np.empty(len(user))
        for start in range(0, len(user), 1_000_000):
            part = slice(start, start + 1_000_000)
            u, i = (torch.tensor(c[part], dtype=torch.int64, device=self.device) for c in (user, item))
            empty = torch.zeros(len(u), device=self.device)
            logit = self.nets_.prediction(Pairs(u, i, empty, empty, tables=self.tables_))
            out[part] = torch.sigmoid(logit).cpu().numpy()
        return out

    @torch.no_grad()
    def _block(self, users: np.ndarray) -> np.ndarray:
        from deconrec.pairs import Grid
        from deconrec.training.samplers import LazyPairs

        n_items = self.spec_.n_items
        grid = Grid(
            torch.as_tensor(users, dtype=torch.int64, device=self.device),
            torch.arange(n_items, device=self.device),
        )
        empty = torch.empty(0, device=self.device)
        logit = self.nets_.prediction(LazyPairs(o=empty, r=empty, tables=self.tables_, grid=grid))
        return torch.sigmoid(logit).reshape(len(users), n_items).cpu().numpy()

    def _of_log(self, data: Dataset, log: Log) -> np.ndarray:
        if log.context is None:
            return self._pairs(log.user, log.item)
        return probability(self._logits(log)[0])

    @torch.no_grad()
    def _logits(self, log: Log) -> tuple[np.ndarray, np.ndarray | None]:
        """((n,) logit of pCVR, (n,) logit of pCTR or None) of impressions; codes of unseen ids are n_users, n_items."""
        user, item = (
            np.where(np.append(known, False)[code], code, len(known))
            for known, code in ((self.covered_users_, log.user), (self.covered_items_, log.item))
        )
        assert log.context is not None
        b, a = np.empty(len(log)), np.empty(len(log))
        clicks = True
        for start in range(0, len(log), ANSWERED):
            part = slice(start, start + ANSWERED)
            context = log.context.take(np.arange(len(log))[part])
            pairs = impression_pairs(user[part], item[part], context, self.device)
            b[part] = self.nets_.prediction(pairs).cpu().numpy()
            logit = self.click_logit(pairs)
            clicks = logit is not None
            if logit is not None:
                a[part] = logit.cpu().numpy()
        return b, a if clicks else None

    def click_logit(self, pairs: Pairs) -> Tensor | None:
        """(n,) logit of P(o = 1) as L_CTR taught it, before any floor; None where the method learns none."""
        if "propensity" in self.nets_:
            return self.nets_.propensity(pairs)
        for name in self._nuisances():
            fitted = getattr(self, f"{name}_")
            if hasattr(fitted, "click_logit"):
                return fitted.click_logit(pairs)
        return None

    def exposure_logit(self, nets: Nets, pairs: Pairs) -> Tensor | None:
        """(n,) logit of the propensity that the method learns itself, before its floor; None where it learns none."""
        return nets.propensity(pairs) if "propensity" in nets and hasattr(self, "floor_") else None

    def observed_weights(self, nets: Nets, observed: Pairs) -> Tensor | None:
        """(n,) weights of observed pairs, where they are not 1 over the floored propensity; None otherwise."""
        return None

    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        _ = self.error_kind  # an error that the outcomes do not fit is refused before anything is trained
        super()._fit(data, validation, progress)
        self.overlap_ = self._overlap(data)

    def _fit_again(self, data: Dataset, progress: bool) -> None:
        if not len(self.history_):
            return
        nothing = ValidationPart(data.with_logs(data.biased.take(np.zeros(0, np.int64))))
        self._train(data, nothing, self.history_.best_epoch + 1, again=True, progress=progress)
        self.overlap_ = self._overlap(data)

    @torch.no_grad()
    def _overlap(self, data: Dataset) -> Overlap | None:
        """What the weights of the observed rows rest on, for methods that weight; also a warning where it is little."""
        for name in self._nuisances():
            fitted = getattr(self, f"{name}_")
            if isinstance(fitted, Propensity):
                return getattr(fitted, "overlap_", None)
        observed = log_pairs(data, data.biased, self.tables_, self.device)
        logit, w = self.exposure_logit(self.nets_, observed), self.observed_weights(self.nets_, observed)
        if logit is None:
            return None
        p, floor = torch.sigmoid(logit).cpu().numpy(), getattr(self, "floor_", 0.0)
        if len(self.history_) and (w is None or bool(w.max() - w.min() <= 1e-6 * w.max())):
            refuse_constant(p, floor, type(self).__name__)
        overlap = Overlap.of(p, floor, None if w is None else w.cpu().numpy())
        overlap.warn(type(self).__name__)
        return overlap

    def _source(self, data: Dataset) -> Source | ImpressionSource:
        source = super()._source(data)
        self.tables_ = source.tables  # kept: a network that reads features reads them when it answers, too
        return source

    @torch.no_grad()
    def _fold_in(self, history: Dataset) -> np.ndarray:
        net = self.nets_.prediction
        return fold_in(
            net.item_side(self.tables_),
            net.new_users(history.n_users, self.tables(history).user),
            history.biased.user,
            history.biased.item,
            history.outcome(history.biased),
            penalty=self.l2_ * max(self.spec_.rows, 1),
        )

    @torch.no_grad()
    def _item_vectors(self) -> np.ndarray | None:
        return self.nets_.prediction.item_side(self.tables_)[0].cpu().numpy()

    def _state(self) -> dict[str, np.ndarray]:
        tables = {"user": self.tables_.user, "item": self.tables_.item}
        kept = {f"tables.{side}": t.cpu().numpy() for side, t in tables.items() if t is not None}
        return super()._state() | kept

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        user, item = (
            torch.from_numpy(np.array(state[f"tables.{side}"])) if f"tables.{side}" in state else None
            for side in ("user", "item")
        )
        self.tables_ = Tables(user, item).to(self.device)


@dataclass(kw_only=True, eq=False, repr=False)
class RowEstimator(TorchEstimator):
    """A method whose networks read whole user rows (exposures, features, substitute confounders).

    A new user is scored from its history by one forward pass: fold-in is exact. Where the likelihood gives
    affinities and no expected outcome, a monotone map fitted on training exposures gives the outcome (`calibrate`).
    """

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        rows_: Source

    @abstractmethod
    def logits(self, nets: Nets, rows: Rows) -> Tensor:
        """(B, n_items) logits in evaluation mode."""

    def sampler(self, data: Dataset) -> Sampler:
        """Blocks of `batch` user rows."""
        return Blocks(min(self.batch, data.n_users))

    def _fit(self, data: Dataset, validation: ValidationPart, progress: bool) -> None:
        if self.tags.uses_rating and len(data.biased) and data.biased.rating.min() < 0:
            raise DataError(
                f"{type(self).__name__} reads ratings as counts, which must be >= 0; the lowest is "
                f"{data.biased.rating.min():g}. Shift the ratings, or use a method over pairs."
            )
        super()._fit(data, validation, progress)
        self._calibrate()

    def _source(self, data: Dataset) -> Source:
        # Kept: a trained user's rows are the network's input. The map of affinities is the last thing fitted.
        source = super()._source(data)
        assert isinstance(source, Source)  # a method over rows is refused on impressions
        self.rows_, self.slope_, self.shift_ = source, 1.0, 0.0
        return self.rows_

    def _covered(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        return np.ones(data.n_users, bool), np.ones(data.n_items, bool)

    def validation_score(self, validation: ValidationPart) -> float:
        """NDCG@20 of validation users' held-out positives (any held-out row where no positive is defined);
        without validation users, the pairs' score.
        """
        if validation.history is None:
            if not self.scale_.binary:  # a squared error, unlike a rank statistic, needs the outcome's scale
                self._calibrate()
            return pairs_score(self, validation.data, validation.data.biased)
        target = validation.data.biased
        task = validation.data.task
        if task.binarize is not None or task.relevant is not None:
            positive = target.take(task.positive(target.rating))
            target = positive if len(positive) else target
        history = validation.history
        score, broken = self._validation_scorer(validation), False

        def block(users: np.ndarray) -> np.ndarray:
            nonlocal broken
            affinity = score(users)
            if np.isfinite(affinity).all():
                return affinity
            broken = True
            return np.nan_to_num(affinity)

        ranks = current()
        mine = slice(None) if ranks is None else ranks.part(history.n_users)
        placed = place_blocks(
            lambda users: block(users + (mine.start or 0)),
            target.pattern(history.shape)[mine],
            history.biased.pattern(history.shape)[mine],
            depth=VALIDATION_K,
        )
        values = placed.values("ndcg", VALIDATION_K).values
        values = np.append(values, np.nan) if broken else values
        if ranks is not None:  # a mean over users, not of the processes' means
            values = ranks.gathered(values)
        # NaN: the trainer stops on it, with the epoch. Nobody to judge by: the first epoch is kept.
        return float(values.mean()) if len(values) else 0.0

    def _validation_scores(self, validation: ValidationPart) -> np.ndarray:
        log = validation.data.biased
        if validation.history is None:
            return self._pair_affinity(log.user, log.item)
        out, score = np.empty(len(log), np.float32), self._validation_scorer(validation)
        for start in range(0, validation.history.n_users, 1024):
            users = np.arange(start, min(start + 1024, validation.history.n_users))
            rows = (log.user >= start) & (log.user < start + 1024)
            out[rows] = score(users)[log.user[rows] - start, log.item[rows]]
        return out

    def _validation_scorer(self, validation: ValidationPart) -> Callable[[np.ndarray], np.ndarray]:
        """Gives (B, n_items) scores of validation users, by their numbers, from the rows a model is given for them."""
        history = validation.history
        assert history is not None
        source = Source.of(history, self.tables(history), self.device)
        return lambda users: self._source_affinity(source, users)

    def _affinity(self, history: Dataset) -> np.ndarray:
        """(n, n_items) log-softmax scores of the users of a data set."""
        source = Source.of(history, self.tables(history), self.device)
        return self._source_affinity(source, np.arange(history.n_users))

    @torch.no_grad()
    def _source_affinity(self, source: Source, users: np.ndarray) -> np.ndarray:
        training = self.nets_.training
        self.nets_.eval()
        out = np.empty((len(users), source.shape[1]), np.float32)
        for start in range(0, len(users), 1024):
            rows, _ = user_rows(source, users[start : start + 1024])
            logits = torch.log_softmax(self.logits(self.nets_, rows), 1)
            out[start : start + len(rows)] = logits.cpu().numpy()
        self.nets_.train(training)
        return out

    def _calibrate(self) -> None:
        """E[r | affinity] = sigma(slope * affinity + shift), by logistic regression on the training exposures.

        Only the map's ends need the ratings; the slope is kept positive so that the ranking is the network's.
        """
        user, item, r = self.rows_.user, self.rows_.item, self.rows_.r
        n_users = self.rows_.shape[0]
        if n_users > 5_000:
            chosen = np.zeros(n_users, bool)
            chosen[np.random.default_rng(0).choice(n_users, 5_000, replace=False)] = True
            rows = chosen[user]
            user, item, r = user[rows], item[rows], r[rows]
        self.slope_, self.shift_ = platt(self._pair_affinity(user, item), r)

    def _pair_affinity(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        """(n,) scores of coded pairs of training users, a thousand users' rows held at once."""
        out = np.empty(len(user), np.float32)
        users, back = np.unique(user, return_inverse=True)
        order = np.argsort(back, kind="stable")
        bounds = np.searchsorted(back[order], np.arange(0, len(users) + 1024, 1024))
        for k, start in enumerate(range(0, len(users), 1024)):
            rows = order[bounds[k] : bounds[k + 1]]
            block = self._source_affinity(self.rows_, users[start : start + 1024])
            out[rows] = block[back[rows] - start, item[rows]]
        return out

    def _outcome(self, affinity: np.ndarray) -> np.ndarray:
        return np.asarray(expit(self.slope_ * affinity + self.shift_))

    def _block(self, users: np.ndarray) -> np.ndarray:
        return self._outcome(self._source_affinity(self.rows_, users))

    def _pairs(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self._outcome(self._pair_affinity(user, item))

    def _fold_in(self, history: Dataset) -> np.ndarray:
        return self._outcome(self._affinity(history))

    def _state(self) -> dict[str, np.ndarray]:
        out = super()._state()
        x = self.rows_.tables.user
        out |= {
            "rows.user": self.rows_.user,
            "rows.item": self.rows_.item,
            "rows.r": self.rows_.r,
            "rows.rating": self.rows_.rating,
            "rows.indptr": self.rows_.indptr,
            "calibration": np.array([self.slope_, self.shift_]),
        }
        return out if x is None else out | {"rows.x": x.cpu().numpy()}

    def _restore(self, state: Mapping[str, np.ndarray]) -> None:
        super()._restore(state)
        self.slope_, self.shift_ = (float(v) for v in state["calibration"])
        x = torch.from_numpy(np.array(state["rows.x"])) if "rows.x" in state else None
        device = torch.device(self.device)
        self.rows_ = Source(
            self.spec_.shape,
            user=np.array(state["rows.user"]),
            item=np.array(state["rows.item"]),
            r=np.array(state["rows.r"]),
            rating=np.array(state["rows.rating"]),
            indptr=np.array(state["rows.indptr"]),
            unbiased=None,
            tables=Tables(x).to(device),
            device=device,
        )


def not_shared(model: Estimator) -> str:
    """Why several workers cannot train a method together; empty where they can."""
    who, trained = type(model).__name__, isinstance(model, TorchEstimator)
    if isinstance(model, TorchEstimator) and model.SHARED:
        return ""
    why = "compares the users of a batch with one another" if trained else "is not trained by gradient steps"
    return (
        f"{who} {why}, and several workers can only share steps over rows that do not depend on each other; fit it "
        "with one (no --workers), or take a method that can ('mf', 'res-dr', 'deep-deconf')."
    )


def check_device(name: str, who: str) -> None:
    """Refuse a torch device that is none, or that this machine does not have.

    Raises
    ------
    ParameterError.
    """
    try:
        torch.empty(0, device=torch.device(name))
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's own ways of saying no
        raise ParameterError(
            f"'device' of {who} must be a torch device of this machine (cpu, cuda:0, mps); got '{name}' "
            f"({str(error).splitlines()[0]})."
        ) from error


def pairs_score(model: Estimator, data: Dataset, log: Log) -> float:
    """Validation score of predictions for the rows of a log: AUC where both outcomes occur, minus the error."""
    r, ranks = data.outcome(log), current()
    if ranks is None:
        prediction = model._of_log(data, log)
    else:  # each answers for its part
        mine = np.arange(len(log))[ranks.part(len(log))]
        prediction = ranks.gathered(model._of_log(data, log.take(mine)))
    if not np.isfinite(prediction).all():
        return float("nan")  # the trainer stops on it, with the epoch
    if not data.outcome_scale.binary:
        return -mse(prediction, r)
    return -logloss(prediction, r) if r.min() == r.max() else auc(prediction, r, log.weight)


def _fit_nuisance(
    model: Parameterised, data: Dataset, validation: ValidationPart, owner: TorchEstimator
) -> Parameterised:
    fitted, who = model.clone(), type(owner).__name__
    if "seed" in fitted._names():
        fitted.set_params(seed=owner.seed)
    fitted.check_params()
    if isinstance(fitted, Propensity):
        if fitted.needs_unbiased and data.unbiased is None:
            raise MissingUnbiasedLog(f"{type(fitted).__name__}, the propensity of {who},")
        return fitted.fit(data)
    if isinstance(fitted, ExposureModel):
        return fitted.fit(data, validation.history)
    if isinstance(fitted, Estimator):
        return _beside(fitted, owner).fit(data, validation=validation)
    raise DataError(
        f"{who} has a nuisance {type(fitted).__name__} that is no propensity, exposure model or method."
    )


def _beside(teacher: Estimator, owner: TorchEstimator) -> Estimator:
    """A method inside another works where its owner does (a saved owner may wake up on another machine)."""
    return teacher.set_params(device=owner.device) if "device" in teacher._names() else teacher


def _teacher_state(teacher: Estimator) -> dict[str, np.ndarray]:
    """What a method inside another has of its own; ids, scale and seen pairs are its owner's."""
    return teacher._state() | {
        "covered_users": teacher.covered_users_.astype(np.uint8),
        "covered_items": teacher.covered_items_.astype(np.uint8),
        "seconds": np.array([teacher.seconds_]),
    }


def _restore_teacher(teacher: Estimator, state: Mapping[str, np.ndarray], owner: TorchEstimator) -> None:
    """The inverse of `_teacher_state`."""
    shared = ("users_", "items_", "task_", "scale_", "spec_", "seen_", "mean_", "item_mean_", "fingerprint_")
    for name in (*shared, "context_", "unbiased_rows_"):
        setattr(teacher, name, getattr(owner, name))
    teacher.covered_users_ = np.array(state["covered_users"], bool)
    teacher.covered_items_ = np.array(state["covered_items"], bool)
    teacher.seconds_ = float(state["seconds"][0])
    _beside(teacher, owner)._restore(state)


def _below(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
