"""How a space-time U-Net reads a text: word by word, by attention, and all of it beside the level of noise."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_video.backbones.stunet_blocks import Added, heads_of, norm, reached, zeroed
from ssl_video.capabilities import Text
from ssl_video.errors import UserError

TOKENS = 64
"""Words of the longest text."""
LETTERS = 32
"""Bytes of the longest word."""


class TextLevel(Added):
    """A text as a vector beside the level of noise: its words together, their order left aside."""

    part = "text"

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), zeroed(nn.Linear(width, width)))

    def forward(self, x_BLD: Tensor, known_BL: Tensor) -> Tensor:
        """(B, D) of the tokens that are known."""
        known_BL1 = known_BL[..., None].to(x_BLD)
        return self.layers((x_BLD * known_BL1).sum(1) / known_BL1.sum(1).sqrt())


class TextAttention(Added):
    """Every place of every frame attends to the words of a text, and to one learned token that is always there.

    ``words`` words have a vector each; which these are, ``letters_WL`` keeps (its numbers are UTF-8 bytes, as floats
    that a moving average leaves as they are). States of ``text_dim`` channels of an encoder can take their place.
    """

    part = "text"
    WIDTH = 64
    letters_WL: Tensor

    def __init__(self, channels: int, words: int, text_dim: int):
        super().__init__()
        self.heads = heads_of(channels)
        self.register_buffer("letters_WL", torch.zeros(words, LETTERS))
        self.null_D = nn.Parameter(torch.randn(self.WIDTH))
        self.word_WD = nn.Parameter(torch.randn(words, self.WIDTH))
        self.position_LD = nn.Parameter(0.02 * torch.randn(TOKENS, self.WIDTH))
        self.from_states = nn.Linear(text_dim, self.WIDTH) if text_dim else None
        self.norm, self.query = norm(channels), nn.Linear(channels, channels)
        self.key_value = nn.Linear(self.WIDTH, 2 * channels)
        self.projection = zeroed(nn.Linear(channels, channels))

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The words, in the order of their numbers."""
        rows = self.letters_WL.byte().cpu().numpy()
        return tuple(word.decode() for row in rows if (word := bytes(row).rstrip(b"\0")))

    def learn(self, words: tuple[str, ...]) -> None:
        """Give numbers to words that have none yet, behind those that have. Raises UserError if places are missing."""
        known = self.vocabulary
        words = (*known, *(word for word in dict.fromkeys(words) if word not in known))
        if len(words) > len(self.letters_WL):
            raise UserError(
                f"The captions have {len(words)} words, and the network has places for {len(self.letters_WL)}; use "
                f"--backbone.words {len(words)}."
            )
        for row, word in zip(self.letters_WL, words, strict=False):
            letters = word.encode()
            if len(letters) > LETTERS:
                raise UserError(f"The captions have the word {word!r}, which is too long; write shorter ones.")
            row[: len(letters)] = torch.tensor(list(letters), dtype=row.dtype)

    def tokens(self, text: Text | None, batch: int) -> tuple[Tensor, Tensor]:
        """(B, 1 + L, D) and, where a token is one, true in (B, 1 + L); the first is the learned one."""
        null_B1D = (self.null_D + 0).expand(batch, 1, -1)  # a parameter's own view would not be counted (torch 2.15)
        always_B1 = torch.ones(batch, 1, dtype=torch.bool, device=null_B1D.device)
        if text is None:
            return reached(null_B1D, self.word_WD, self.position_LD, *self._of_states()), always_B1
        length = text.known_BL.shape[1]
        if length > TOKENS:
            raise UserError(f"A text has at most {TOKENS} words, and this one has {length}; write a shorter one.")
        if text.states_BLE is not None:
            assert self.from_states is not None, "states of an encoder, for a network of text_dim=0"
            x_BLD = reached(self.from_states(text.states_BLE.to(self.null_D.dtype)), self.word_WD)
        else:
            assert text.words_BL is not None
            x_BLD = reached(F.embedding(text.words_BL.clamp_min(0), self.word_WD), *self._of_states())
        x_BLD = x_BLD + self.position_LD[:length]
        return torch.cat([null_B1D.to(x_BLD), x_BLD], 1), torch.cat([always_B1, text.known_BL], 1)

    def _of_states(self) -> tuple[nn.Parameter, ...]:
        return () if self.from_states is None else tuple(self.from_states.parameters())

    def forward(self, x_NCHW: Tensor, tokens: tuple[Tensor, Tensor], T: int) -> Tensor:
        """(B T, C, H, W), as many; ``tokens`` are those of the text."""
        x_BLD, known_BL = tokens
        k, v = self.key_value(x_BLD).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        places_BSC = self.norm(x_NCHW).unflatten(0, (-1, T)).permute(0, 1, 3, 4, 2).flatten(1, 3)
        q = self.query(places_BSC).unflatten(2, (self.heads, -1)).transpose(1, 2)
        y_BSC = F.scaled_dot_product_attention(q, k, v, known_BL[:, None, None]).transpose(1, 2).flatten(2)
        size = (T, *x_NCHW.shape[2:])
        return x_NCHW + self.projection(y_BSC).unflatten(1, size).permute(0, 1, 4, 2, 3).flatten(0, 1)
