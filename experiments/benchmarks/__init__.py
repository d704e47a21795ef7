"""What experiments.bench measures: sizes, needed work, cases, peers, and how they are timed.

`work` counts flops and bytes, `cases` is the table of what is measured, `peers` the libraries that
stand beside it, `programs` compiles it, `measure` takes the times, `forward` is the forward pass of
the encoders.
"""
