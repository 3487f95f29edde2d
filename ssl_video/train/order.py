"""The order of an epoch: a function of seed, epoch and place."""

import numpy as np

SHUFFLED_AT_MOST = 1 << 24
"""Keys (videos times clips) of an epoch that are shuffled as a whole, in 128 MB; the order of more is computed place by
place. A list of 16,777,216 has another order than versions before 0.2 gave it, which could not hold it."""
ROUNDS = 8


def order_of(seed: int, epoch: int, count: int) -> "np.ndarray | Computed":
    """A permutation of ``count`` keys, to be indexed by arrays of places."""
    if count <= SHUFFLED_AT_MOST:
        return np.random.default_rng([seed, epoch]).permutation(count)
    return Computed(seed, epoch, count)


class Computed:
    """A permutation that is held nowhere: a Feistel network on pairs of numbers, with sums for exclusive ors.

    A place p below ``count`` is (p // b, p % b), where a * b is the least product not below ``count`` with a the whole
    square root. Each round adds a keyed hash of one number to the other, modulo a or b, which can be undone, so that
    it is a permutation of a * b places. One that leads beyond ``count`` is followed until it leads below it.
    """

    def __init__(self, seed: int, epoch: int, count: int):
        self.count = count
        self.a = max(1, int(np.sqrt(count)))
        self.b = -(-count // self.a)
        self.keys = np.random.SeedSequence([seed, epoch]).generate_state(ROUNDS, np.uint64)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, places_N: np.ndarray) -> np.ndarray:
        """(N,) the keys at these places."""
        found_N = self._round_trip(np.asarray(places_N, np.int64))
        while (beyond_N := found_N >= self.count).any():
            found_N[beyond_N] = self._round_trip(found_N[beyond_N])
        return found_N

    def _round_trip(self, places_N: np.ndarray) -> np.ndarray:
        high_N, low_N = np.divmod(places_N, self.b)
        for number, key in enumerate(self.keys):
            if number % 2:
                low_N = (low_N + _hash(high_N, key, self.b)) % self.b
            else:
                high_N = (high_N + _hash(low_N, key, self.a)) % self.a
        return high_N * self.b + low_N


def _hash(x_N: np.ndarray, key: np.uint64, modulus: int) -> np.ndarray:
    """(N,) numbers below ``modulus``, which look random: splitmix64's last steps, of 64 bits and a key."""
    z_N = x_N.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) ^ key
    z_N = (z_N ^ (z_N >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z_N = (z_N ^ (z_N >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z_N ^ (z_N >> np.uint64(31))) % np.uint64(modulus)).astype(np.int64)
