"""All numbers that arXiv:2606.07882 reports and a page shows beside ours."""

# Medians over its four domains by number of components.
PAPER_SWEEP = {4: 0.31, 8: 0.49, 12: 0.62, 16: 0.679, 24: 0.683, 32: 0.681, 64: 0.642}


# Its five encoders: median without each, and with all.
PAPER_WITHOUT = {
    "resnet50": 0.647, "convnext_base": 0.701, "vit_base": 0.680, "efficientnet_b0": 0.650,
    "dinov2_base": 0.692,
}  # fmt: skip


PAPER_ALL = 0.680


# Discriminative over MIM: calibrated CKA, and mutual k-NN by k; and CKA over all its domains.
PAPER_RATIOS = {"cka": 7.4, "10": 4.82, "30": 5.12, "100": 5.30}


PAPER_POOLED = 1.22
