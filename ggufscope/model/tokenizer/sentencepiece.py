"""SentencePiece's BPE as llama.cpp does it: join the best neighbours while any two make a token.

Every pair of neighbours whose texts together are a token may be joined. The pair whose token has
the highest score goes first, of equal scores the leftmost (``llm_tokenizer_spm_session`` in
``src/llama-vocab.cpp``). A list of merges, as `tokenizers` wants them, cannot say that: it ranks
pairs, and two pairs that make one token, or two tokens of one score, would have to share a rank.
So this is done here; a priority queue makes it n log n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush


def join_pieces(text: str, ids: Mapping[str, int], scores: Sequence[float]) -> list[str]:
    """Cut a text into tokens, and into single characters where no token fits.

    ``scores`` are by token id; none at all counts as equal.
    """
    pieces = list(text)
    before = list(range(-1, len(pieces) - 1))
    after = list(range(1, len(pieces) + 1))

    def pair(left: int) -> tuple[float, int, int, str] | None:
        """Return a piece and its right neighbour, to be sorted by score, then from the left."""
        right = after[left]
        if left < 0 or right >= len(pieces):
            return None
        joined = pieces[left] + pieces[right]
        id_ = ids.get(joined)
        if id_ is None:
            return None
        return (-scores[id_] if scores else 0.0, left, right, joined)

    queue = [found for left in range(len(pieces)) if (found := pair(left))]
    heapify(queue)
    while queue:
        _, left, right, joined = heappop(queue)
        # One of the two was joined to another since.
        if not pieces[left] or not pieces[right] or pieces[left] + pieces[right] != joined:
            continue
        pieces[left], pieces[right] = joined, ""
        after[left] = after[right]
        if after[left] < len(pieces):
            before[after[left]] = left
        for start in (before[left], left):
            if start >= 0 and (found := pair(start)):
                heappush(queue, found)
    return [piece for piece in pieces if piece]
