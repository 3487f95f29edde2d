"""The order of an epoch: a function of seed, epoch and place."""

import numpy as np

SHUFFLED_AT_MOST = 1 << 24
"""Keys (videos times clips) of an epoch that are shuffled as a whole, in 128 MB; the order of more is computed place by
place. A list of 16,777,216 has another order than versions before 0.2 gave it, which could not hold it."""
ROUNDS = 8


def order_of(seed: int, epoch: int, count: int, block: int = 0, window: int = 1) -> "np.ndarray | Computed | Blocks":
    """A permutation of ``count`` keys, to be indexed by arrays of places; with ``block`` see ``Blocks``."""
    if block:
        return Blocks(seed, epoch, count, block, window)
    if count <= SHUFFLED_AT_MOST:
        return np.random.default_rng([seed, epoch]).permutation(count)
    return Computed(seed, epoch, count)


class Blocks:
    """A permutation of keys that leaves neighbours near each other, for what is read best in its own order.

    The keys, as on a ring, are cut into blocks of ``block`` neighbours from a random place on; the blocks are permuted
    (a rest that fills none comes last), and every ``window`` blocks that follow each other are shuffled as a whole.
    All of it is a function of seed, epoch and place.
    """

    def __init__(self, seed: int, epoch: int, count: int, block: int, window: int):
        self.seed, self.epoch, self.count, self.block, self.mixed = seed, epoch, count, block, block * window
        self.first = int(np.random.default_rng([seed, epoch, 1]).integers(count))
        self.blocks = order_of(seed, epoch, count // block)
        self._window, self._shuffled = -1, np.zeros(0, np.int64)

    def __getitem__(self, places_N: np.ndarray) -> np.ndarray:
        """(N,) the keys at these places."""
        places_N = np.asarray(places_N, np.int64)
        mixed_N = np.empty_like(places_N)
        for window in np.unique(places_N // self.mixed).tolist():
            inside_N = places_N // self.mixed == window
            mixed_N[inside_N] = window * self.mixed + self._order_in(window)[places_N[inside_N] - window * self.mixed]
        whole = self.count // self.block * self.block
        blocks_N, within_N = np.divmod(mixed_N, self.block)
        permuted_N = mixed_N.copy()
        inside_N = mixed_N < whole
        permuted_N[inside_N] = self.blocks[blocks_N[inside_N]] * self.block + within_N[inside_N]
        return (permuted_N + self.first) % self.count

    def _order_in(self, window: int) -> np.ndarray:
        if window != self._window:
            size = min(self.mixed, self.count - window * self.mixed)
            rng = np.random.default_rng([self.seed, self.epoch, 2, window])
            self._window, self._shuffled = window, rng.permutation(size)
        return self._shuffled


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
