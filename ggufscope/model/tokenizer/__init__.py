"""Text to token ids and back, as llama.cpp does it with the vocabulary of a GGUF file.

Look first at ``text.py``: ``TextTokenizer`` finds special tokens (``special_tokens.py``), hands
what is left between them to an encoder (``encoders.py``), and puts BOS and EOS around the ids.

==================  ===================================================================
vocabulary.py       the metadata read into a ``Vocabulary``
keys.py             its keys, each checked as it is read
rules.py            what llama.cpp concludes from names where the file says nothing
encoders.py         one encoder for each ``tokenizer.ggml.model``: gpt2, llama, bert, t5
pretokenizers.py    gpt2 (BPE): how ``tokenizer.ggml.pre`` cuts a text into words
sentencepiece.py    llama: joining the best neighbours
wordpiece.py        bert: words, then the longest piece first
unigram.py          t5: normalizing a text before it is cut
==================  ===================================================================

The package ``tokenizers`` does BPE and Unigram; it is imported in ``encoders.py`` alone.
"""
