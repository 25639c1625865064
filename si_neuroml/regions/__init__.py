"""Which brain region is this unit in? Features, datasets, classifiers, depth and evaluation."""
