"""Pure tensor functions: elementwise errors, reweighted risks, the ELBO's parts."""
