"""Which users and which items are alike: what features and substitute confounders say, as vectors phi_u and psi_i.

    phi_u = ( kernel features of x_u,  z_u turned to its principal axes,  log n_u )     n_u  rows of the biased log
    psi_i = ( kernel features of x_i,  ridge regression of i's exposures on z,  log n_i )

The products of vectors are then kernels: Ku = Phi Phi', Ki = Psi Psi'. Features and exposures are two groups, each of
mean squared length 1, and columns stand in the order of their variance. Whoever has no features stands at the centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from deconrec.base import ExposureModel
from deconrec.data.dataset import Dataset, Features
from deconrec.exposure.substitutes import substitutes
from deconrec.kernels.low_rank import LowRank

FEATURES, EXPOSURES = 0, 1  # groups of columns
RIDGE = 1e-6  # of the regression on z, relative to the sum of its squares


@dataclass(eq=False)
class Likeness:
    """Vectors of training users and items, and the maps that give those of new users.

    Attributes
    ----------
    phi, psi: (n, F), (m, H) float32.  phi_group, psi_group: (F,), (H,) of `FEATURES` and `EXPOSURES`.
    item_activity: (m,) log n_i with mean 0 and deviation 1.
    model: the fitted exposure model, or None.
    """

    phi: np.ndarray
    psi: np.ndarray
    phi_group: np.ndarray
    psi_group: np.ndarray
    item_activity: np.ndarray
    model: ExposureModel | None
    _map: LowRank | None = None
    _item_map: LowRank | None = None
    _turn: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        data: Dataset,
        *,
        features: bool,
        rank: int,
        model: ExposureModel | None,
        exposure_rank: int,
        rng: np.random.Generator,
    ) -> Likeness:
        """The vectors of a data set's users and items.

        features: read them, where there are some; rank: most kernel features of either side.
        model: an exposure model fitted to the data's biased log, or None; exposure_rank: most axes of z.
        """
        nothing = np.zeros((0, 0), np.float32)
        counts_u, counts_i = (
            np.bincount(code, minlength=n)
            for code, n in zip((data.biased.user, data.biased.item), data.shape, strict=True)
        )
        group = np.zeros(0, np.int64)
        out = cls(nothing, nothing, group, group, nothing, model)
        out._turn["activity"] = centre_and_spread(counts_u)
        out._turn["item_activity"] = centre_and_spread(counts_i)
        if features and data.user_features is not None:
            out._map = low_rank(data.user_features, rank, rng)
        if features and data.item_features is not None:
            out._item_map = low_rank(data.item_features, rank, rng)
        if model is not None:
            z = substitutes(model, data).astype(np.float64)
            centred = z - z.mean(0)
            value, vector = np.linalg.eigh(centred.T @ centred / max(len(z) - 1, 1))
            value, vector = value[::-1], vector[:, ::-1]
            most = max(value[0], 1e-300)
            kept = min(exposure_rank, int((value > 1e-9 * most).sum()))
            length = np.sqrt(1.0 + value[:kept].sum() / most)
            out._turn |= {
                "centre": z.mean(0),
                "axes": np.ascontiguousarray(vector[:, :kept] / np.sqrt(most)),
                "length": length[None],
            }
        phi = out._user_columns(data)[0]
        out._turn["order"] = np.argsort(-phi.var(0, dtype=np.float64), kind="stable")
        psi = out._item_columns(data)[0]
        out._turn["item_order"] = np.argsort(-psi.var(0, dtype=np.float64), kind="stable")
        return out.again(data, model)

    def again(self, data: Dataset, model: ExposureModel | None) -> Likeness:
        """The vectors of other users and items, and of more rows, by the same maps; `model` knows the data's items."""
        out = replace(self, model=model)
        counts = np.bincount(data.biased.item, minlength=data.n_items)
        out.item_activity = standardised_log(counts, self._turn["item_activity"]).astype(np.float32)
        (phi, phi_group), (psi, psi_group) = out._user_columns(data), out._item_columns(data)
        order, item_order = self._turn["order"], self._turn["item_order"]
        # In the order that a saved array has, so that a loaded model rounds alike.
        out.phi, out.phi_group = np.ascontiguousarray(phi[:, order]), phi_group[order]
        out.psi, out.psi_group = np.ascontiguousarray(psi[:, item_order]), psi_group[item_order]
        return out

    def users(self, history: Dataset) -> np.ndarray:
        """(n, F) float32 vectors of a history's users."""
        return np.ascontiguousarray(self._user_columns(history)[0][:, self._turn["order"]])

    def user_activity(self, counts: np.ndarray) -> np.ndarray:
        """Log n_u of users with so many rows, on the training users' scale."""
        return standardised_log(counts, self._turn["activity"])

    def _axes(self, data: Dataset) -> np.ndarray:
        """(n, K) z of users, centred, on its principal axes, the first of deviation 1."""
        assert self.model is not None
        return np.asarray((substitutes(self.model, data) - self._turn["centre"]) @ self._turn["axes"])

    def _user_columns(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        n, blocks, group = data.n_users, [], []
        if self._map is not None:
            blocks.append(mapped(self._map, data.user_features, n))
            group += [FEATURES] * blocks[-1].shape[1]
        if self.model is not None:
            activity = self.user_activity(np.bincount(data.biased.user, minlength=n))
            blocks.append(np.column_stack([self._axes(data), activity]) / self._turn["length"])
            group += [EXPOSURES] * blocks[-1].shape[1]
        phi = np.column_stack(blocks) if blocks else np.zeros((n, 0))
        return phi.astype(np.float32), np.array(group, np.int64)

    def _item_columns(self, data: Dataset) -> tuple[np.ndarray, np.ndarray]:
        m, blocks, group = data.n_items, [], []
        if self._item_map is not None:
            blocks.append(mapped(self._item_map, data.item_features, m))
            group += [FEATURES] * blocks[-1].shape[1]
        if self.model is not None:
            z, counts = self._axes(data), np.bincount(data.biased.item, minlength=m)
            a = data.biased.pattern(data.shape)
            # Popular items' columns are scaled down, so that the few rows of the others count.
            right = (a.T @ z - np.outer(counts, z.mean(0))) / np.sqrt(counts + 1.0)[:, None]
            gram = z.T @ z
            v = np.linalg.solve(gram + RIDGE * max(np.trace(gram), 1e-300) * np.eye(len(gram)), right.T).T
            activity = standardised_log(counts, self._turn["item_activity"])
            if "item_centre" not in self._turn:
                centre = v.mean(0)
                # An axis counts as much among items as it does among users.
                scale = z.std(0) / np.sqrt(np.maximum(v.var(0), 1e-300))
                both = np.column_stack([(v - centre) * scale, activity])
                length = np.sqrt(max((both**2).sum(1).mean(), 1e-12))
                self._turn |= {"item_centre": centre, "item_scale": scale, "item_length": length[None]}
            v = (v - self._turn["item_centre"]) * self._turn["item_scale"]
            blocks.append(np.column_stack([v, activity]) / self._turn["item_length"])
            group += [EXPOSURES] * blocks[-1].shape[1]
        psi = np.column_stack(blocks) if blocks else np.zeros((m, 0))
        return psi.astype(np.float32), np.array(group, np.int64)

    # ------------------------------------------------------------------ saving
    def state(self) -> dict[str, np.ndarray]:
        """Arrays by name, but for those of the exposure model."""
        names = ("phi", "psi", "phi_group", "psi_group", "item_activity")
        out = {name: getattr(self, name) for name in names} | {f"turn.{k}": v for k, v in self._turn.items()}
        for name, low in (("map", self._map), ("item_map", self._item_map)):
            out |= {} if low is None else {f"{name}.{k}": v for k, v in low.state().items()}
        return out

    @classmethod
    def restored(cls, state: Mapping[str, np.ndarray], model: ExposureModel | None) -> Likeness:
        """The inverse of `state`."""
        names = ("phi", "psi", "phi_group", "psi_group", "item_activity")
        phi, psi, phi_group, psi_group, activity = (np.array(state[name]) for name in names)
        out = cls(phi, psi, phi_group, psi_group, activity, model)
        parts = {
            name: {k.removeprefix(name): np.array(v) for k, v in state.items() if k.startswith(name)}
            for name in ("turn.", "map.", "item_map.")
        }
        out._turn = parts["turn."]
        out._map, out._item_map = (
            LowRank.restored(parts[name]) if parts[name] else None for name in ("map.", "item_map.")
        )
        return out


def low_rank(features: Features, rank: int, rng: np.random.Generator) -> LowRank:
    """The kernel features fitted to the rows that have features."""
    return LowRank.of(features.values[~features.missing], rank, rng)


def mapped(low_rank: LowRank, features: Features | None, n: int) -> np.ndarray:
    """(n, r) kernel features; zeros, the kernel's centre, where there are no features."""
    out = np.zeros((n, low_rank.projection.shape[1]), np.float32)
    if features is not None:
        known = ~features.missing
        out[known] = low_rank(features.values[known])
    return out


def centre_and_spread(counts: np.ndarray) -> np.ndarray:
    """(mean, standard deviation, 1 where nothing varies) of log(1 + n)."""
    x = np.log1p(counts)
    spread = float(x.std()) if len(x) else 0.0
    return np.array([float(x.mean()) if len(x) else 0.0, spread if spread > 1e-6 else 1.0])


def standardised_log(counts: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """log(1 + n) less the mean, in deviations."""
    return np.asarray((np.log1p(counts) - scale[0]) / scale[1])
