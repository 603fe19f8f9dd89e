"""The anatomy of a model: each quantity in order, stored in the file or computed when it runs.

What a layer of llama computes over T tokens (E: embedding, H: heads, K: key heads, D: head size,
S: tokens to be seen, F: features), and from which tensors of the file:

===============  =======  ============================  ==============================
attn_norm        T E      norm of inpL                  attn_norm
Qcur             T H D    queries, rotated              attn_q
Kcur, Vcur       T K D    keys (rotated), values        attn_k, attn_v
cache_k, _v      S K D    those of all tokens so far
kq               H T S    Qcur @ cache_k: scores
kq_soft_max      H T S    the attention weights
kqv              H T D    kq_soft_max @ cache_v
kqv_out          T H*D    all heads side by side
attn_out         T E      kqv_out @ W_o                 attn_output
ffn_inp          T E      inpL + attn_out
ffn_norm         T E      norm of ffn_inp               ffn_norm
ffn_gate, _up    T F      features                      ffn_gate, ffn_up
ffn_swiglu       T F      silu(ffn_gate) * ffn_up
ffn_out          T E      ffn_swiglu @ W_down           ffn_down
l_out            T E      ffn_inp + ffn_out
===============  =======  ============================  ==============================

Look first at ``table.py``: this and every other family, row by row. A row is explained in
``rows.py``, its shape in ``symbols.py``, when it applies in ``conditions.py``. ``build.py`` reads
the table against one model (``anatomy_of``) and makes a ``Quantity`` (``quantities.py``) of each
row that applies. A family needs a row of its own? Put it in the table, behind a condition.
"""
