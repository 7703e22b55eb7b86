"""What server and client share without Flower: the schedule, the messages, aggregation, checkpoint."""
