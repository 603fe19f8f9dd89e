"""The searches for a scale that the formats share, by kind, named as in ggml.

A sub-block x is stored as integer levels L and a scale. Dividing by the full range is a start, not
the best. So ggml tries a few wider and narrower scales; for each it rounds the weights to levels
and solves for the scale that fits these levels best, by weighted least squares. The best is kept.

=============  ======================  ==========================================
``affine``     scale * L + minimum     qkx2, qkx3 (which is the same search)
``symmetric``  scale * L, both signs   qx, q3, and qvalues (IQ4's, which has no name in ggml)
``positive``   scale * L, from 0       qp
``vectors``    scale * entry           IQ2's and IQ3's: an entry of a grid for 4 or 8 weights
``splits``     scale * -1, 0 or 1      IQ1's, which tries every split of the sorted weights
=============  ======================  ==========================================

All arrays are lanes, ``(k, lanes)``: see ``ordered``. What a weight counts in the fit is handed in
by the format, in an array of the shape of x: ``weights`` has it for columns with an importance. A
search may come in two forms, one code. The *quick* form rounds by adding ``MAGIC`` and clamps while
the sum is still a float. It is exact where every number to round stays within ``MAGIC_REACH``. The
*careful* form reads the bits as ggml does, and does again the lanes that may leave the range (a
NaN, an infinity, a spread that overflows or nearly vanishes). The levels are not kept, but what
they are made with: most formats round again anyway, with the scales that were stored, and need them
only where the stored scale came out as zero.
"""
