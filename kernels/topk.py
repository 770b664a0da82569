"""Exact TopK inside one program, by binary search over the bits of a float. Device functions.

Among floats that are neither negative nor NaN the order of values is the order of their bits as integers, so the k-th
largest is found by 31 counts, whatever the values; ties go to the lower position. Equal to a stable descending sort.
"""

import triton
import triton.language as tl


@triton.jit
def kth_largest(bits, k):
    """The largest v with count(bits >= v) >= k, 0 if there is none; `bits` is 1-d int32, padded with -1."""
    least = tl.max(bits, axis=0) * 0
    for bit in tl.static_range(30, -1, -1):
        candidate = least | (1 << bit)
        enough = tl.sum((bits >= candidate).to(tl.int32), axis=0) >= k
        least = tl.where(enough, candidate, least)
    return least


@triton.jit
def keep_first(bits, threshold, k):
    """Which k entries to keep: all above `threshold`, then those equal to it from the left; and each one's rank by position."""
    above = (bits > threshold).to(tl.int32)
    equal = (bits == threshold).to(tl.int32)
    left = k - tl.sum(above, axis=0)
    kept = above + equal * (tl.cumsum(equal, axis=0) <= left).to(tl.int32)
    return kept != 0, tl.cumsum(kept, axis=0) - kept
