"""What a person gets of a segmentation: cards, pictures, dendrogram, densities."""
