"""An experiment over hospitals without Flower: the coordinator's loop, a hospital's door, joining, checkpoint."""
