"""Decision depth of a logit lens."""

import numpy as np


def decision_depth(agrees):
    """First layer, from 1, from which on the decision stays that of the model.

    agrees : bool (B, L), whether the decision after each layer is the model's

    Returns
    -------
    float (B,), NaN where that of the last layer is not
    """
    agrees = np.asarray(agrees, bool)
    stays = np.cumprod(agrees[:, ::-1], axis=1).sum(1)
    return np.where(stays > 0, agrees.shape[1] + 1.0 - stays, np.nan)
