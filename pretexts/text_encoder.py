"""A text encoder of one's own, from a local folder of transformers; nothing is downloaded."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ssl_video.capabilities import Text
from ssl_video.errors import UserError, needs

MOST_TOKENS = 64


class TextEncoder:
    """The states of a text's tokens, from a folder that transformers wrote (CLIP, T5, BERT and others).

    It is no part of the networks that read it, takes no gradient and is in no file of weights.

    Raises:
        UserError: if there is no such folder, transformers is not installed, or it cannot read the folder.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise UserError(
                f"There is no folder {folder} with a text encoder; name one that transformers wrote (config.json, "
                f"weights and tokenizer)."
            )

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """Tokenizer and network."""
        try:
            from transformers import AutoConfig, AutoModel, AutoTokenizer  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise needs("A text encoder", "transformers", "text") from None
        where = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(self.folder, **where)
            network = AutoModel.from_pretrained(self.folder, **where, use_safetensors=True)
            tokenizer = AutoTokenizer.from_pretrained(self.folder, **where)
        except Exception as error:  # whatever transformers finds amiss
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise UserError(f"{self.folder} is no text encoder that transformers reads: {reason}.") from None
        part = getattr(network, "text_model", None) or (network.get_encoder() if config.is_encoder_decoder else network)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer, part.eval().requires_grad_(False)

    @property
    def dim(self) -> int:
        """Channels of a state."""
        config = self._parts[1].config
        return int(getattr(config, "hidden_size", None) or config.d_model)

    @torch.no_grad()
    def states(self, texts: Sequence[str], device: torch.device) -> Text:
        """The states of all tokens, at most 64 of each text."""
        tokenizer, network = self._parts
        tokens = tokenizer(list(texts), padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
        network.to(device)
        known_BL = tokens["attention_mask"].to(device)
        states_BLE = network(input_ids=tokens["input_ids"].to(device), attention_mask=known_BL).last_hidden_state
        return Text(known_BL.bool(), states_BLE=states_BLE.float())
