"""From noisy sums to segments: a synopsis of customers, k-means on it, the choice of k."""
