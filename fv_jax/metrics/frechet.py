"""The Fréchet distance between two sets of features, exact.

    d = |m1 - m2|^2 + tr S1 + tr S2 - 2 tr sqrt(S1 S2)

of the means m and covariances S (Dowson and Landau 1982; as a score of images: FID,
arXiv:1706.08500; of videos: FVD, arXiv:1812.01717). S divides by N - 1, as numpy.cov does and the
common tools with it (google-research frechet_video_distance, VideoGPT, TATS); StyleGAN-V and
cd-fvd divide by N. A single video has no covariance: only the means count then.

No square root of a matrix is taken, the step that fails most often in other tools (scipy's sqrtm,
fewer videos than features). Let F hold the centered features of a set, divided by sqrt(N - 1), so
that S = F^T F. Then S1 S2 has the eigenvalues of (F1 F2^T)(F1 F2^T)^T, and

    tr sqrt(S1 S2) = sum of the singular values of F1 F2^T      (the nuclear norm)

whatever the ranks. F may be any matrix with the same F^T F, so a set of any size is kept as a mean
and a triangle of at most C rows (the R of a QR decomposition): nothing is ever squared, so no
digits are lost.
"""

import dataclasses

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and covariance of a set of vectors, in float64.

    Attributes:
        count: vectors seen.
        mean: of all vectors.
        factor: at most C rows; factor^T factor is the sum over vectors of (x - mean)(x - mean)^T.
    """

    count: int
    mean: Float[np.ndarray, " C"]
    factor: Float[np.ndarray, "rows C"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "N C"], name: str = "features") -> "Moments":
        """Moments of vectors of any float type.

        Raises:
            ValueError: not [N, C], or not all finite; says which row of `name`.
        """
        rows = np.asarray(features)
        if rows.ndim != 2 or not rows.shape[1]:
            raise ValueError(f"{name} must be [N, C], got {list(rows.shape)}")
        rows = rows.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise ValueError(f"{name} must be finite, got NaN or infinity in row {bad[0]}")
        if not len(rows):
            return cls(0, np.zeros(rows.shape[1]), rows)
        mean = rows.mean(axis=0)
        return cls(len(rows), mean, _shortened(rows - mean))

    @property
    def spread(self) -> Float[np.ndarray, "rows C"]:
        """F, with the covariance F^T F."""
        return self.factor / np.sqrt(max(self.count - 1, 1))


def frechet(a: Moments, b: Moments) -> float:
    """The distance d of two sets (not its root), >= 0; see the module for the conventions.

    Raises:
        ValueError: an empty set, or vectors of different lengths.
    """
    if not (a.count and b.count):
        raise ValueError(f"both sets need features, got {a.count} and {b.count}")
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"features must be of one length, got {len(a.mean)} and {len(b.mean)}")
    one, other = a.spread, b.spread
    shared = np.linalg.svd(one @ other.T, compute_uv=False).sum()
    apart = np.sum((a.mean - b.mean) ** 2)
    # Equal sets give 0 up to rounding, which may fall below.
    return max(float(apart + np.sum(one**2) + np.sum(other**2) - 2 * shared), 0.0)


def frechet_distance(
    features_a: Float[np.ndarray, "N C"], features_b: Float[np.ndarray, "other C"]
) -> float:
    """The Fréchet distance of two sets of features, in float64, whatever their own type.

    Args:
        features_a: of the one set; FVD's are the 400 logits of I3D.
        features_b: of the other; there may be more or fewer.

    Raises:
        ValueError: not [N, C] with N >= 1, vectors of other lengths, or not all finite.
    """
    return frechet(Moments.of(features_a, "features_a"), Moments.of(features_b, "features_b"))


def _shortened(rows: np.ndarray) -> np.ndarray:
    """At most as many rows as columns, with the same rows^T rows."""
    if len(rows) <= rows.shape[1]:
        return rows
    return np.asarray(np.linalg.qr(rows, mode="r"))
