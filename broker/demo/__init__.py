"""The demo: a school year on a real, secured Kafka. `chapters` is what happens, `chain` who plays, `stage` where."""
