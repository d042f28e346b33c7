"""The exposure model of Deep-Deconf: a factorised-logistic VAE whose code is the substitute confounder.

Idea.   If z renders exposures independent, no confounder of several items is left out: ratings given z behave
as in a randomised experiment (paper 1 [Zhu2024], section 4.1).

Risk.   max E_q[ sum_i a log s_i + (1 - a) log(1 - s_i) ] - beta KL(q(z | a) || N(0, I)),  s = sigma(decode(z)),
averaged over users. The likelihood must factorise: a multinomial would tie the exposures to one another.

Deviations. 1. The decoder's bias starts at logit(item popularity): from 0 it does not arrive in the published
number of steps, and z is then a poor confounder. 2. Smaller batches (200 for 500), a learning rate of 2e-2 (released:
1e-3, 5e-4) for 30 epochs (150), the full KL (beta = 1 after 15; released: 0.2 after 80). 3. Validation users' z comes
from the rows that a model is given, never from held-out ones (the released script infers it from both). 4. Products of
the decoder in bfloat16 where the processor has it (`precision`); z is computed in single precision. 5. Nothing stops
training, and nothing chooses among fits: the held-out log-likelihood is kept with the check, for whoever does (a search
of a method judges its recommendations).

Note.   What the first two are worth, on held-out users of `sim-deconf`: `deconrec reproduce
studies/substitute-confounder`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from deconrec.base import ExposureModel, Spec
from deconrec.data.dataset import Dataset
from deconrec.exposure.check import PredictiveCheck, predictive_check
from deconrec.kernels.decoder import PRECISIONS, decoded_bernoulli
from deconrec.losses.elbo import annealed
from deconrec.nn.restoring import check_sizes
from deconrec.nn.vae import ExposureVAE, kl_to_standard
from deconrec.pairs import NO_TABLES, Batch, Rows
from deconrec.parameters import Search, parameter
from deconrec.random import seed_sequence
from deconrec.training.program import Adam, History, Nets, Phase, Program, Step, Terms
from deconrec.training.samplers import Blocks, Source
from deconrec.training.trainer import Trainer


@dataclass(kw_only=True, eq=False, repr=False)
class VAEExposure(ExposureModel):
    """Substitute confounders from a VAE over exposures."""

    dim: int = parameter(100, "dimension K of z", low=1, search=Search(5, 200, log=True, whole=True))
    lr: float = parameter(2e-2, "learning rate of Adam", above=0, search=Search(2e-3, 4e-2, log=True))
    epochs: int = parameter(30, "passes over the users", low=1)
    batch: int = parameter(200, "users in a step", low=1)
    dropout: float = parameter(
        0.5, "share of a user's exposures dropped from the input in training", low=0, below=1
    )
    kl: float = parameter(1.0, "largest weight beta of the KL term", low=0)
    anneal: float = parameter(15.0, "epochs over which the KL weight grows from 0", low=0)
    popularity_bias: bool = parameter(True, "start the decoder's bias at logit(item popularity), not 0")
    check_draws: int = parameter(100, "replications in the predictive check; 0 = no check", low=0)
    precision: str = parameter(
        "auto",
        "of matrix products in training; auto = bfloat16 where the processor has it and the decoder is large",
        choices=PRECISIONS,
    )
    device: str = parameter("cpu", "torch device")
    seed: int = parameter(0, "draws initial values and batches", low=0)

    if TYPE_CHECKING:  # learned; an annotation here would be a parameter
        nets_: Nets
        history_: History
        check_: PredictiveCheck | None

    def fit(self, data: Dataset, validation: Dataset | None = None) -> VAEExposure:
        """Fit to the exposures of the biased log; `validation` (the rows given for new users) is only checked on."""
        self.check_params()
        generator = seed_sequence(self.seed, "exposure").generate_state(1)[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator))
            self.nets_ = self.nets(Spec.of(data)).to(self.device)
            trainer = Trainer(self.epochs, Adam(self.lr), seed=self.seed)
            source = Source.of(data, NO_TABLES, self.device)
            self.history_ = trainer.run(
                self.nets_, self.program(), Blocks(min(self.batch, data.n_users)), source
            )
        self.check_ = None
        if self.check_draws:
            whom = data if validation is None else validation
            self.check_ = predictive_check(
                self, whom, new_users=validation is not None, draws=self.check_draws, seed=self.seed
            )
        return self

    def nets(self, spec: Spec) -> Nets:
        """The VAE."""
        bias = popularity_logit(spec) if self.popularity_bias else None
        return Nets(exposure=ExposureVAE(spec.n_items, self.dim, self.dropout, bias))

    def program(self) -> Program:
        """One step over user rows."""
        return [Phase(Step(self.elbo, updates=("exposure",)))]

    def elbo(self, nets: Nets, b: Batch) -> Terms:
        """The negative evidence lower bound, nats a user."""
        assert b.rows is not None
        z, mean, log_std = nets.exposure.code(b.rows)
        beta = annealed(b.epoch, self.anneal, self.kl)
        return {
            "exposures": -b.rows.mean(decoded_bernoulli(z, nets.exposure.decode, b.rows, self.precision)),
            "kl": beta * b.rows.mean(kl_to_standard(mean, log_std)),
        }

    @torch.no_grad()
    def confounder(self, rows: Rows) -> Tensor:
        """(B, dim) z_u = mean of q(z | a_u), dropout off."""
        self.nets_.eval()
        return self.nets_.exposure.encode(rows)[0]

    @torch.no_grad()
    def posterior(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z | a), each (B, dim), dropout off."""
        self.nets_.eval()
        mean, log_std = self.nets_.exposure.encode(rows)
        return mean, log_std.exp()

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """(B, n_items) P(a_ui = 1 | z_u)."""
        return torch.sigmoid(self.nets_.exposure.decode(z))

    def reconstruct(self, rows: Rows) -> Tensor:
        """(B, n_items) P(a_ui = 1 | z_u) at the mean z."""
        return self.decode(self.confounder(rows))

    @torch.no_grad()
    def posterior_logits(
        self, rows: Rows, held: np.ndarray, draws: int, rng: np.random.Generator
    ) -> np.ndarray:
        """(draws, B, J) logits of exposure to the items `held`, z drawn from q(z | a_u)."""
        self.nets_.eval()
        net = self.nets_.exposure
        mean, log_std = (t.cpu().numpy() for t in net.encode(rows.to(self.device)))
        z = mean + np.exp(log_std) * rng.standard_normal((draws, *mean.shape), dtype=np.float32)
        weight, bias = (p.detach().cpu().numpy()[held] for p in (net.decode.weight, net.decode.bias))
        logits: np.ndarray = z @ weight.T + bias
        return logits

    @torch.no_grad()
    def moved(self, code: np.ndarray) -> VAEExposure:
        """The model over other items; code (n_items,): each one here, or -1 for a new one, which says nothing.

        A new item adds nothing to the code and is as likely as the least likely known one, whoever is asked for. Its
        rows count in the length of a user's history.
        """
        known, at = torch.from_numpy(code >= 0), torch.from_numpy(np.maximum(code, 0))
        old = self.nets_.exposure
        net = ExposureVAE(len(code), self.dim, self.dropout, None).to(self.device)
        net.load_state_dict(
            {
                "encoder.items": torch.where(known[:, None], old.encoder.items[at], 0.0),
                "encoder.bias": old.encoder.bias,
                "decode.weight": torch.where(known[:, None], old.decode.weight[at], 0.0),
                "decode.bias": torch.where(known, old.decode.bias[at], old.decode.bias.min()),
            }
        )
        out = self.clone()
        out.nets_, out.check_ = Nets(exposure=net).eval(), self.check_
        return out

    def _state(self) -> dict[str, np.ndarray]:
        nets = {k: v.detach().cpu().numpy() for k, v in self.nets_.state_dict().items()}
        return nets if self.check_ is None else nets | self.check_._state()

    def _restore(self, state: Mapping[str, np.ndarray], spec: Spec) -> None:
        nets = {k: v for k, v in state.items() if not k.startswith("check.")}
        check_sizes(lambda: self.nets(spec), nets)
        self.nets_ = self.nets(spec)
        self.nets_.load_state_dict({k: torch.from_numpy(np.array(v)) for k, v in nets.items()})
        self.nets_.to(self.device).eval()
        self.check_ = PredictiveCheck._restored(state)


def popularity_logit(spec: Spec) -> Tensor | None:
    """(n_items,) logit of the share of users that were shown an item; None where the data are not known."""
    if spec.item_rate is None:
        return None
    # Half a user's worth of smoothing: an item nobody was shown has a finite logit.
    rate = (spec.item_rate * spec.n_users + 0.5) / (spec.n_users + 1.0)
    return torch.from_numpy(np.log(rate / (1.0 - rate)).astype(np.float32))
