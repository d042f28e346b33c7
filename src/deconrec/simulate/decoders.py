"""The two decoders of the semi-simulated worlds: VAEs fitted to real exposures and real ratings [Zhu2024].

    f_exp   max E_q[ sum_i a_ui log s_i + (1 - a_ui) log(1 - s_i) ] - KL(q(z | a_u) || N(0, I)),  s = sigma(f(z))
    f_rat   max E_q[ sum_i r_ui log softmax(f(z))_i ]               - KL(q(z | r_u) || N(0, I))

Both f are linear, f(z) = z W + b; r_ui is the rating as a count. Fitted in double precision: what two machines round
differently then stays far below what decides a cut. The only module of `simulate` that loads torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor, nn

from deconrec.data.dataset import Dataset
from deconrec.losses.elbo import annealed, bernoulli_log_likelihood, multinomial_log_likelihood
from deconrec.nn.vae import SparseLinear, decoder, kl_to_standard, sample
from deconrec.pairs import NO_TABLES, Batch, Rows
from deconrec.random import seed_sequence
from deconrec.threads import one_thread
from deconrec.training.program import Adam, Nets, Phase, Step, Terms
from deconrec.training.samplers import Blocks, Source, user_rows
from deconrec.training.trainer import Trainer

# NOTE at a learning rate of 3e-3 the bound of 20 epochs on ML-1M is 12 nats a user lower, and 39 % of its films are
# never shown (10 % at 1e-2).
LR, DROPOUT = 1e-2, 0.5
STEPS, SMALLEST, LARGEST = 30, 16, 200  # steps an epoch, and the users that a step may have
WARM = 0.5  # share of the epochs over which the KL weight grows from 0 to 1
KEPT = 8  # decoders remembered: a few megabytes each


@dataclass(frozen=True, eq=False)
class Decoders:
    """Linear maps from a code of K normal numbers to the items' logits, float64.

    Attributes
    ----------
    exposure_weights, rating_weights: (K, n_items).
    exposure_bias, rating_bias: (n_items,).
    rotation: (K, K) orthogonal: of all rotations, the one that takes the real users' exposure codes nearest to
        their rating codes (Procrustes; means of q, centred).
    """

    exposure_weights: np.ndarray
    exposure_bias: np.ndarray
    rating_weights: np.ndarray
    rating_bias: np.ndarray
    rotation: np.ndarray


class RowVAE(nn.Module):
    """A user's row -> z_u -> item logits; the input is the row of exposures or of ratings, scaled to length 1.

    Parameters
    ----------
    rated: read ratings; else exposures.
    bias: (n_items,) start of the decoder's bias.
    """

    def __init__(self, n_items: int, dim: int, rated: bool, bias: Tensor) -> None:
        super().__init__()
        self.rated = rated
        self.code = SparseLinear(n_items, 0, 2 * dim, 0.0)  # mean and log standard deviation side by side
        self.decode = decoder(dim, n_items, bias)

    def encode(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of q(z | row), each (B, dim)."""
        value = rows.rating.double() if self.rated else torch.ones_like(rows.rating, dtype=torch.float64)
        square = value.new_zeros(len(rows)).index_add(0, rows.row, value**2)
        value = value * square.clamp_min(1.0).rsqrt()[rows.row]
        if self.training:
            value = nn.functional.dropout(value, DROPOUT)
        mean, log_std = self.code(rows, weight=value).chunk(2, dim=1)
        return mean, log_std.clamp(-20.0, 2.0)

    def forward(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """(logits (B, n_items), mean (B, dim), log_std (B, dim))."""
        mean, log_std = self.encode(rows)
        return self.decode(sample(mean, log_std, self.training, rows)), mean, log_std


_FITTED: dict[tuple[str, int, int, int], Decoders] = {}


def fit_decoders(raw: Dataset, n_factors: int, epochs: int, seed: int) -> Decoders:
    """Fit both decoders to the biased log of a data set; the same arguments in one process are fitted once.

    One thread, so that the bits do not depend on how many the process has.
    """
    key = raw.fingerprint, n_factors, epochs, seed
    if key not in _FITTED:
        with one_thread():
            fitted = _fit(raw, n_factors, epochs, seed)
        while len(_FITTED) >= KEPT:
            del _FITTED[next(iter(_FITTED))]
        _FITTED[key] = fitted
    return _FITTED[key]


def _fit(raw: Dataset, dim: int, epochs: int, seed: int) -> Decoders:
    shown = np.bincount(raw.biased.item, minlength=raw.n_items) + 0.5
    # A softmax does not see a constant: log counts, so that the first epochs need not learn them.
    liked = np.bincount(raw.biased.item, raw.biased.rating, raw.n_items) + 0.5
    exposure = _trained(raw, dim, epochs, seed, False, np.log(shown / (raw.n_users + 1 - shown)))
    rating = _trained(raw, dim, epochs, seed, True, np.log(liked))
    rows, _ = user_rows(Source.of(raw, NO_TABLES), np.arange(raw.n_users))
    with torch.no_grad():
        codes = [net.encode(rows)[0].numpy() for net in (exposure, rating)]

    def array(tensor: Tensor) -> np.ndarray:
        out: np.ndarray = tensor.detach().numpy().copy()
        return out

    return Decoders(
        array(exposure.decode.weight.T),
        array(exposure.decode.bias),
        array(rating.decode.weight.T),
        array(rating.decode.bias),
        orthogonal_procrustes(*(code - code.mean(axis=0) for code in codes))[0],
    )


def _trained(raw: Dataset, dim: int, epochs: int, seed: int, rated: bool, bias: np.ndarray) -> RowVAE:
    """The VAE of ratings or of exposures, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        stream = f"simulate.decoders/{'rating' if rated else 'exposure'}"
        torch.manual_seed(int(seed_sequence(seed, stream).generate_state(1)[0]))
        nets = Nets(vae=RowVAE(raw.n_items, dim, rated, torch.from_numpy(bias)).double())
        blocks = Blocks(min(LARGEST, max(SMALLEST, raw.n_users // STEPS)))
        program = [Phase(Step(lambda nets, b: bound(nets.vae, b, WARM * epochs), updates=("vae",)))]
        Trainer(epochs, Adam(LR), seed=seed).run(nets, program, blocks, Source.of(raw, NO_TABLES))
    vae: RowVAE = nets.vae
    return vae


def bound(vae: RowVAE, b: Batch, anneal: float) -> Terms:
    """The negative evidence lower bound, nats a user: multinomial for ratings, factorised for exposures."""
    assert b.rows is not None
    logits, mean, log_std = vae(b.rows)
    if vae.rated:
        likelihood = multinomial_log_likelihood(logits, b.rows, b.rows.rating)
    else:
        likelihood = bernoulli_log_likelihood(logits, b.rows)
    kl = kl_to_standard(mean, log_std)
    return {"likelihood": -likelihood.mean(), "kl": annealed(b.epoch, anneal, 1.0) * kl.mean()}
