"""How checkpoints of different origin become models of ours; one file per source."""
