"""Which tokens of a step are steered, worked out on the host from what the model runner knows there."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SteeredTokens(NamedTuple):
    """The tokens of one step that lie in the scope of their request; all arrays [n] int64."""

    token: NDArray  # index into the step's tokens
    position: NDArray  # in the request
    row: NDArray  # of the tables
    record: NDArray  # number in the log, -1 where nobody will ask


def steered_tokens(owners: NDArray, query_start_loc: NDArray, positions: NDArray) -> SteeredTokens:
    """`owners` [m, 5]: index in the batch, row, first and last + 1 position in scope, record of each steered request.

    Request i owns tokens query_start_loc[i] up to [i + 1] of `positions` [num_tokens].
    """
    starts, ends = query_start_loc[owners[:, 0]], query_start_loc[owners[:, 0] + 1]
    lengths = ends - starts
    owner = np.repeat(np.arange(len(owners)), lengths)
    token = (
        np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths) + np.repeat(starts, lengths)
    )
    position = positions[token]
    inside = (position >= owners[owner, 2]) & (position < owners[owner, 3])
    owner, token = owner[inside], token[inside]
    return SteeredTokens(token, position[inside], owners[owner, 1], owners[owner, 4])
