"""Which samples are worth a label: deviation calibrated to error, then diversity."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Calibration:
    """Predicts the true error from the ensemble's deviation, learnt from labels already paid for.

    ln e = a + b ln d + noise, with a conjugate prior a ~ ln 2, b ~ 1 worth a few observations: the
    members of an ensemble err alike, so that their mean is off by about twice their deviation. The
    prediction is Student's t, so few observations mean wide tails.

    Args:
        mean: (2,) a, b
        precision: (2, 2) of (a, b), in units of the noise
        scale: of the noise
        freedom: degrees of freedom
    Source: conjugate Bayesian regression, Gelman et al., Bayesian Data Analysis, section 14.2
    """

    mean: np.ndarray
    precision: np.ndarray
    scale: float
    freedom: float

    @staticmethod
    def fit(deviation: np.ndarray, error: np.ndarray) -> "Calibration":
        """From pairs measured before the model had seen the sample.

        Pairs that are not finite, or zero, say nothing of the noise and are left out.
        """
        keep = np.isfinite(deviation) & np.isfinite(error) & (deviation > 0) & (error > 0)
        x = np.stack([np.ones(keep.sum()), np.log(deviation[keep])], axis=1)
        y = np.log(error[keep])
        prior, prior_mean = np.diag([10.0, 100.0]), np.array([np.log(2.0), 1.0])
        precision = prior + x.T @ x
        mean = np.linalg.solve(precision, prior @ prior_mean + x.T @ y)
        freedom = 6.0 + len(y)
        squares = 6.0 * 0.5**2 + y @ y + prior_mean @ prior @ prior_mean - mean @ precision @ mean
        return Calibration(mean, precision, float(np.sqrt(squares / freedom)), freedom)

    def exceeds(self, deviation: np.ndarray, target: float) -> np.ndarray:
        """Probability that the error is above the target, 1 where deviation is not finite."""
        known = np.isfinite(deviation)
        x = np.stack([np.ones_like(deviation), np.log(np.where(known, deviation, 1.0) + 1e-12)], -1)
        width = self.scale * np.sqrt(
            1.0 + np.einsum("...i,ij,...j->...", x, np.linalg.inv(self.precision), x)
        )
        probability = student.sf((np.log(target) - x @ self.mean) / width, self.freedom)
        return np.where(known, probability, 1.0)

    def threshold(self, target: float, probability: float) -> float:
        """The deviation at which the error exceeds the target with this probability."""
        grid = target * np.geomspace(1e-3, 1e3, 2001)
        above = np.nonzero(self.exceeds(grid, target) >= probability)[0]
        return float(grid[above[0]] if len(above) else grid[-1])


def diverse(features: np.ndarray, weight: np.ndarray, known: np.ndarray, count: int) -> list[int]:
    """Greedy choice of samples that are uncertain and unlike each other and unlike the known.

    next = argmax_i weight_i * min_j |f_i - f_j|        j over the known and the chosen

    Args:    features: (m, d);  weight: (m,) >= 0;  known: (p, d), p may be 0
    Returns: at most `count` indices; none with zero weight or at zero distance
    """
    near = np.full(len(features), np.inf)
    for row in known:
        near = np.minimum(near, np.linalg.norm(features - row, axis=1))
    chosen: list[int] = []
    while len(chosen) < count:
        score = weight * np.where(np.isinf(near), 1.0, near)
        best = int(np.argmax(score)) if len(score) else -1
        if best < 0 or score[best] <= 0.0:
            break
        chosen.append(best)
        near = np.minimum(near, np.linalg.norm(features - features[best], axis=1))
    return chosen
