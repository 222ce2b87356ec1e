"""One file per claim: each prints baseline, ours and the ratio from one interleaved run, after checking the outputs."""
